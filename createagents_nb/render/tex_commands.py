"""Allowed TeX commands: mathematics only, nothing that loads, defines, links, styles or moves anything."""

from __future__ import annotations

__all__ = ["COMMANDS", "ENVIRONMENTS"]

_ENVIRONMENTS = """
    align align* aligned alignedat array bmatrix Bmatrix cases dcases equation equation* gather gather* gathered
    matrix multline multline* pmatrix rcases smallmatrix split subarray vmatrix Vmatrix
"""

_LETTERS = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu nu xi omicron
    pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega digamma
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
    aleph beth gimel daleth ell hbar hslash imath jmath Re Im wp partial nabla infty emptyset varnothing
    forall exists nexists top bot angle measuredangle sphericalangle prime backprime degree complement eth mho
    flat natural sharp clubsuit diamondsuit heartsuit spadesuit checkmark square Box blacksquare triangle
    triangledown blacktriangle blacktriangledown bigstar lozenge blacklozenge Diamond dagger ddagger
    ldots cdots vdots ddots dots dotsc dotsb dotsm dotsi dotso surd diagup diagdown S P copyright
"""
_OPERATORS = """
    arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max
    min Pr sec sin sinh sup tan tanh injlim projlim varlimsup varliminf
    sum prod coprod int iint iiint iiiint oint bigcap bigcup bigsqcup bigvee bigwedge bigodot bigotimes bigoplus
    biguplus intop smallint limits nolimits displaylimits operatorname mod bmod pmod pod substack
    pm mp times div cdot ast star circ bullet cap cup uplus sqcap sqcup vee wedge lor land lnot neg setminus
    smallsetminus wr amalg oplus ominus otimes oslash odot bigcirc ltimes rtimes dotplus boxplus boxminus boxtimes
    boxdot barwedge veebar curlyvee curlywedge intercal divideontimes centerdot circledast circledcirc circleddash
    triangleleft triangleright bigtriangleup bigtriangledown unlhd unrhd
"""
_RELATIONS = """
    lt gt le leq ge geq leqq geqq leqslant geqslant ll gg lll ggg ne neq equiv sim simeq approx approxeq cong
    propto varpropto doteq triangleq coloneqq eqcolon asymp prec succ preceq succeq precsim succsim subset supset
    subseteq supseteq subseteqq supseteqq subsetneq supsetneq sqsubset sqsupset sqsubseteq sqsupseteq in notin ni
    owns mid nmid parallel nparallel perp models vdash dashv vDash Vdash nvdash nvDash bowtie smile frown between
    lesssim gtrsim lessgtr gtrless lesseqgtr nless ngtr nleq ngeq nsim ncong nsubseteq nsupseteq not therefore
    because vartriangle trianglelefteq trianglerighteq backsim thicksim thickapprox bumpeq eqcirc circeq
    to gets leftarrow rightarrow leftrightarrow Leftarrow Rightarrow Leftrightarrow longleftarrow longrightarrow
    longleftrightarrow Longleftarrow Longrightarrow Longleftrightarrow uparrow downarrow updownarrow Uparrow
    Downarrow Updownarrow mapsto longmapsto hookleftarrow hookrightarrow leftharpoonup leftharpoondown
    rightharpoonup rightharpoondown rightleftharpoons leftrightharpoons nearrow searrow swarrow nwarrow iff implies
    impliedby leadsto rightsquigarrow leftrightarrows rightleftarrows rightrightarrows leftleftarrows
    twoheadrightarrow twoheadleftarrow nrightarrow nleftarrow nRightarrow nLeftarrow circlearrowleft
    circlearrowright curvearrowleft curvearrowright upuparrows downdownarrows multimap xrightarrow xleftarrow
"""
_SHAPE = """
    frac dfrac tfrac cfrac binom dbinom tbinom sqrt root of over choose atop stackrel overset underset
    left right middle big Big bigg Bigg bigl bigr bigm Bigl Bigr Bigm biggl biggr biggm Biggl Biggr Biggm
    lbrace rbrace lbrack rbrack langle rangle lceil rceil lfloor rfloor lvert rvert lVert rVert vert Vert
    ulcorner urcorner llcorner lrcorner lgroup rgroup lmoustache rmoustache backslash
    hat widehat tilde widetilde bar overline underline vec dot ddot dddot acute grave breve check mathring
    overbrace underbrace overrightarrow overleftarrow overleftrightarrow underrightarrow underleftarrow
    cancel bcancel xcancel boxed
    mathrm mathbf mathit mathsf mathtt mathcal mathbb mathfrak mathscr mathnormal boldsymbol bm pmb bf rm it cal
    text textrm textbf textit textsf texttt textnormal mbox
    mathop mathbin mathrel mathord mathopen mathclose mathpunct mathinner
    displaystyle textstyle scriptstyle scriptscriptstyle
    quad qquad thinspace medspace thickspace negthinspace space enspace
    begin end hline hdashline cr tag notag nonumber
"""
_ONE_CHARACTER = [*"\\,;:!|{}%#&_> ~-/'.\"^`=@", "\n"]

ENVIRONMENTS = frozenset(_ENVIRONMENTS.split())
COMMANDS = frozenset(f"{_LETTERS} {_OPERATORS} {_RELATIONS} {_SHAPE}".split()) | frozenset(_ONE_CHARACTER)
