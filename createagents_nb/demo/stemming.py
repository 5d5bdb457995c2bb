"""Words of English and Portuguese: folding, stemming, stop words, and guessing the language."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["STOP_WORDS", "content_words", "fold", "is_portuguese", "same_word", "split_name", "stem"]

_ENGLISH = """
a about after all also am an and any are as at be been before but by can could did do does done for from had has
have he hello hey hi how i if in into is it its just let like may me my no not now of off ok on one or our out
over please she should so some such than thank thanks that the their them then there these they this those time
to too up us very want was we were what when where which while who why will with would yes you your s t re ll ve
m d don
"""
_PORTUGUESE = """
a ao aos as com como da das de dela dele depois do dos e ela ele eles em entao era essa esse esta estao este eu
favor foi isso isto ja la lhe mais mas me mesmo meu minha muito na nas nao no nos nosso num numa o obrigado
obrigada oi ola os ou para pela pelo por porque pra qual quais quando que quem se sem ser seu seus so sobre sua
suas sao tambem te tem um uma umas uns vai voce voces bom boa dia
"""
# Verbs of requests, and words that occur in every description: they do not tell tools apart.
_GENERIC = """
ask answer call describe do explain get give go help know look make need return say see show tell think try use
using used useful tool tools function parameter argument input output value given specified optional default
result string text current atual atualmente format type example thing something anything everything quick short
simple brief small conte conta contar dar de diga dizer explique explica faca faz fazer fale mostre mostra
mostrar quero preciso pode poderia use usar usa ferramenta ferramentas me write escreva escreve create crie new
novo nova good great nice well first primeiro primeira primeiras primeiros many much quantos quantas today hoje
day right certo question questions pergunta perguntas message mensagem
"""


def fold(text: str) -> str:
    """Remove case and accents.

    >>> fold("História")
    'historia'
    """
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).casefold()


STOP_WORDS = frozenset((_ENGLISH + _PORTUGUESE + _GENERIC).split())

# Synonyms and translations, mapped to one word. Applied before stemming.
_CANONICAL = {
    word: canonical
    for canonical, words in {
        "add": "soma some somar sum total plus adicione adicionar add mais",
        "average": "media mean average medio",
        "city": "cidade cidades city cities",
        "column": "coluna colunas column columns",
        "convert": "converta converter converte conversion convert",
        "count": "conte contar contagem count",
        "currency": "moeda moedas currency currencies",
        "customer": "cliente clientes customer customers client clients",
        "data": "dados data",
        "divide": "divida dividir divide division quotient",
        "file": "arquivo arquivos ficheiro ficheiros file files",
        "forecast": "previsao forecast forecasts",
        "fetch": "busca busque buscar baixe baixar download fetch fetches",
        "search": "procura procure procurar pesquisa pesquise pesquisar search find lookup",
        "multiply": "multiplica multiplique multiplicar times product multiply multiplication",
        "price": "preco precos price prices cost custo",
        "read": "ler leia le read reads open abra abrir",
        "row": "linha linhas row rows line lines registro registros record records",
        "send": "envia envie enviar mande mandar send",
        "subtract": "subtraia subtrair diferenca minus difference subtract",
        "table": "tabela tabelas table tables dataframe",
        "calculate": "calcule calcula calcular compute calculator calculation calculate",
        "translate": "traduza traduzir traduz traducao translate translation",
        "weather": "clima tempo weather",
        "user": "usuario usuarios user users",
    }.items()
    for word in words.split()
}
# "conte" is both "count" and "tell"; the others are also common words with another meaning.
for _ambiguous in ("conte", "some", "mais", "times"):
    del _CANONICAL[_ambiguous]

_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """Remove the commonest endings of a folded word, after replacing synonyms.

    >>> stem("tables"), stem("tabela"), stem("multiplied")
    ('tabl', 'tabl', 'multipli')
    """
    word = _CANONICAL.get(word, word)
    for ending, replacement in (("coes", "cao"), ("oes", "ao"), ("ies", "y"), ("ing", ""), ("ed", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + replacement
            break
    else:
        if word.endswith(("ches", "shes", "sses", "xes", "zes")):
            word = word[:-2]
        elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
    if len(word) > 4 and word.endswith("e"):
        word = word[:-1]
    if len(word) > 3 and word.endswith("y"):
        word = word[:-1] + "i"
    return word


def same_word(first: str, second: str) -> bool:
    """Whether two stems are forms of one word: equal, or with the same six letters or more at the beginning.

    >>> same_word(stem("convert"), stem("conversion")), same_word(stem("table"), stem("tablet"))
    (True, False)
    """
    if first == second:
        return True
    common = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        common += 1
    return common >= 6 and max(len(first), len(second)) - common <= 5


def content_words(text: str) -> list[str]:
    """Return the stems of all words but stop words, each once, in order."""
    words = (word for word in _WORD.findall(fold(text)) if word not in STOP_WORDS and len(word) > 1)
    return list(dict.fromkeys(stem(word) for word in words))


def split_name(name: str, vocabulary: str = "") -> list[str]:
    """Split an identifier into words; without separators, into words of the text ``vocabulary``.

    >>> split_name("get_weather"), split_name("readFile"), split_name("currentdate", "The current date")
    (['get', 'weather'], ['read', 'file'], ['current', 'date'])
    """
    words = [fold(word) for word in _WORD.findall(_CAMEL.sub(" ", name))]
    if len(words) != 1 or len(words[0]) < 6:
        return words
    forms = {
        form
        for word in _WORD.findall(fold(vocabulary))
        for form in (word, word.removesuffix("s"))
        if len(word) > 2
    }
    return _segment(words[0], forms) or words


def _segment(name: str, vocabulary: set[str]) -> list[str] | None:
    prefixes: list[list[str] | None] = [[]]  # the words of name[:n], or None
    for end in range(1, len(name) + 1):
        starts = (n for n in range(end - 2) if prefixes[n] is not None and name[n:end] in vocabulary)
        start = next(starts, None)
        prefixes.append(None if start is None else [*(prefixes[start] or []), name[start:end]])
    return prefixes[-1]


_PORTUGUESE_MARKS = """
que nao uma com para voce qual quais como sao hoje ola oi mostre conte busque quanto quantos quantas isso meu
minha dia por favor pergunta antes lembra historia tabela codigo tempo clima fale explique em depois linhas
obrigado perguntei numa pelo pela sobre voces leia arquivo escreva calcule horas bom boa tudo bem media soma
some multiplique multiplica
"""
_PT_MARKS = frozenset(_PORTUGUESE_MARKS.split())
_EN_MARKS = frozenset(_ENGLISH.split()) - {"a", "as", "do", "me", "no", "i", "s", "t", "re", "d", "m", "time"}


def is_portuguese(text: str) -> bool:
    """Guess from stop words and accents whether a text is Portuguese, not English.

    >>> is_portuguese("Que dia é hoje?"), is_portuguese("What day is it today?")
    (True, False)
    """
    folded = _WORD.findall(fold(text[:2000]))
    accents = sum(char in "ãõçÃÕÇ" for char in text[:2000])
    return sum(word in _PT_MARKS for word in folded) + accents > sum(word in _EN_MARKS for word in folded)
