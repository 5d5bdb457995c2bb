"""The canned texts in English and Portuguese, and which one answers a question."""

from __future__ import annotations

import re

from .stemming import fold

__all__ = ["INTRO", "answer_about_table", "pick_answer", "quote_line", "shorten_line"]

INTRO = {
    "en": "*Demo provider: this text is canned, no model is reading your question.*",
    "pt": "*Provedor de demonstração: o texto é pronto, nenhum modelo está lendo a sua pergunta.*",
}

_GREETING = {
    "en": "Hello! 👋 Ask for a **table**, **code**, a **story** or **maths**, or for what a tool of yours does.",
    "pt": "Olá! 👋 Peça uma **tabela**, um **código**, uma **história** ou **matemática**, ou algo de uma tool.",
}
_TABLE = {
    "en": """\
## A table, as an answer may have one

| species | count | mean length (cm) |
|:--------|------:|-----------------:|
| heron   |    12 |             94.2 |
| egret   |    31 |             61.5 |
| ibis    |     7 |             65.0 |

The numbers are made up. To ask about your own data, write `{{df}}` in the cell, or give the agent a
tool that reads it:

1. write a function with type hints,
2. put `@tool` above it,
3. ask for what its docstring describes.
""",
    "pt": """\
## Uma tabela, como uma resposta pode ter

| espécie | quantidade | comprimento médio (cm) |
|:--------|-----------:|-----------------------:|
| garça   |         12 |                   94,2 |
| socó    |         31 |                   61,5 |
| guará   |          7 |                   65,0 |

Os números são inventados. Para perguntar sobre os seus dados, escreva `{{df}}` na célula, ou dê ao
agente uma tool:

1. escreva uma função com tipos,
2. ponha `@tool` em cima dela,
3. peça o que a docstring descreve.
""",
}
_CODE_BLOCK = """\
```python
from collections import Counter

def most_common(words: list[str], n: int = 3) -> list[tuple[str, int]]:
    return Counter(word.lower() for word in words).most_common(n)

print(most_common("the cat and the hat and the bat".split()))
# [('the', 3), ('and', 2), ('cat', 1)]
```
"""
_CODE = {
    "en": f"""\
## Some Python

{_CODE_BLOCK}
- `Counter` counts in one pass, so this is $O(k)$ for $k$ words.
- Words with equal counts come in the order in which they were first seen.
""",
    "pt": f"""\
## Um pouco de Python

{_CODE_BLOCK}
- `Counter` conta numa só passada: $O(k)$ para $k$ palavras.
- Palavras com a mesma contagem vêm na ordem em que apareceram.
""",
}
_STORY = {
    "en": """\
## The notebook that waited

Once there was a notebook whose cells all ran, except the last one. Every evening it said: *tomorrow
I shall have an answer.*

One night a cell asked it, “What are you waiting for?” “For a token,” said the notebook. “And after
that, for one more.”

So they came, **one by one**, like drops from a roof after rain. By morning there was a sentence,
and under it a small green mark.

> Patience, thought the notebook, is only streaming seen from far away.
""",
    "pt": """\
## O caderno que esperava

Era uma vez um caderno em que todas as células rodavam, menos a última. Toda noite ele dizia:
*amanhã terei uma resposta.*

Certa noite uma célula perguntou: “O que você espera?” “Um token”, disse o caderno. “E, depois dele, mais um.”

Então eles vieram, **um a um**, como gotas de um telhado depois da chuva. De manhã havia uma frase,
e embaixo dela um sinal verde.

> Paciência, pensou o caderno, é apenas streaming visto de longe.
""",
}
_FORMULAS = r"""
$$\bar{x} = \frac{1}{n} \sum_{i=1}^{n} x_i \qquad s^2 = \frac{1}{n-1} \sum_{i=1}^{n} (x_i - \bar{x})^2$$
"""
_MATHS = {
    "en": rf"""
## Two formulas

The mean $\bar{{x}}$ and the sample variance $s^2$ of $n$ values:
{_FORMULAS}
1. Subtract the mean from each value.
2. Square, add up, and divide by $n - 1$.

For $x = (1, 2, 3)$ the mean is $2$ and the variance is $\frac{{1 + 0 + 1}}{{2}} = 1$.
""",
    "pt": rf"""
## Duas fórmulas

A média $\bar{{x}}$ e a variância amostral $s^2$ de $n$ valores:
{_FORMULAS}
1. Subtraia a média de cada valor.
2. Eleve ao quadrado, some e divida por $n - 1$.

Para $x = (1, 2, 3)$ a média é $2$ e a variância é $\frac{{1 + 0 + 1}}{{2}} = 1$.
""",
}
_SHOWCASE = {
    "en": r"""
## What an answer can hold

Text with **bold**, *italics* and `code` arrives token by token, and lists too:

- `CreateAgent(provider="openai")` asks a real model
- `recorder.calls` has one row for each call

```python
import pandas as pd

df = pd.DataFrame({"x": [1, 2, 3]})
df["square"] = df["x"] ** 2
```

| x | square |
|--:|-------:|
| 1 |      1 |
| 2 |      4 |
| 3 |      9 |

Maths stands in a line, $e^{i\pi} + 1 = 0$, or by itself:

$$\sum_{k=1}^{n} k^2 = \frac{n(n+1)(2n+1)}{6}$$
""",
    "pt": r"""
## O que uma resposta pode ter

Texto com **negrito**, *itálico* e `código` chega token a token, e listas também:

- `CreateAgent(provider="openai")` pergunta a um modelo de verdade
- `recorder.calls` tem uma linha por chamada

```python
import pandas as pd

df = pd.DataFrame({"x": [1, 2, 3]})
df["quadrado"] = df["x"] ** 2
```

| x | quadrado |
|--:|---------:|
| 1 |        1 |
| 2 |        4 |
| 3 |        9 |

Matemática fica na linha, $e^{i\pi} + 1 = 0$, ou sozinha:

$$\sum_{k=1}^{n} k^2 = \frac{n(n+1)(2n+1)}{6}$$
""",
}

_KINDS = (
    ("story", _STORY, r"\b(?:story|stories|tale|poem|historia|historias|conto|poema)\b"),
    ("code", _CODE, r"\b(?:code|function|python|script|program|snippet|codigo|funcao|programa)\b"),
    (
        "maths",
        _MATHS,
        r"\b(?:maths?|formulas?|equations?|theorem|integral|variance|matematica|equacao|equacoes|variancia)\b",
    ),
    ("table", _TABLE, r"\b(?:tables?|data|dataframe|columns?|rows?|csv|tabelas?|dados|colunas?|linhas?)\b"),
)
_TABLE_ECHO = {
    "en": """\
## The table that you sent

{table}

It arrived as the cell above put it into the prompt. A model would describe it now; this text only shows that
your data got here.
""",
    "pt": """\
## A tabela que você mandou

{table}

Ela chegou como a célula acima a pôs na mensagem. Um modelo a descreveria agora; este texto só mostra que os
seus dados chegaram.
""",
}
_MARKDOWN_TABLE = re.compile(
    r"^\|[^\n]{1,2000}\|[ \t]*\n\|[ :|-]{1,2000}\|[ \t]*(?:\n\|[^\n]{1,2000}\|[ \t]*)*", re.MULTILINE
)
_MAX_TABLE_ROWS = 5
_GREETING_WORDS = re.compile(
    r"(?:hello|hi|hey|ola|oi|bom dia|boa tarde|boa noite|good (?:morning|evening|afternoon)|how are you|tudo bem"
    r"|thanks|thank you|obrigad[oa])\b"
)


def pick_answer(question: str, language: str) -> tuple[str, str]:
    """Choose an answer by the keywords in ``question``; return its kind and its text."""
    folded = fold(question)
    matching = [(kind, texts) for kind, texts, keywords in _KINDS if re.search(keywords, folded)]
    if len(matching) == 1:
        kind, texts = matching[0]
        return kind, texts[language]
    if not matching and len(folded) <= 60 and _GREETING_WORDS.match(folded.strip(" ¡!.,")):
        return "greeting", _GREETING[language]
    return "showcase", _SHOWCASE[language]


def answer_about_table(message: str, language: str) -> str | None:
    """Answer with a copy of the first Markdown table in ``message``; None if it has none."""
    match = _MARKDOWN_TABLE.search(message)
    if match is None:
        return None
    rows = match[0].strip().splitlines()[: _MAX_TABLE_ROWS + 2]
    return _TABLE_ECHO[language].format(table="\n".join(rows))


def shorten_line(text: str, length: int = 90) -> str:
    """Put ``text`` on one line of at most ``length`` characters, cut between words."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    cut = line[: length - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[length // 2 :] else cut) + "…"


def quote_line(text: str, length: int = 90) -> str:
    """Quote ``text`` as a Markdown blockquote of one line, with its Markdown escaped."""
    return "> " + re.sub(r"([\\`*$\[\]<>#|])", r"\\\1", shorten_line(text, length))
