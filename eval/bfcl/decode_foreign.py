"""Java and JavaScript call text (`[A.f(x=1, y=new int[]{2})]`) -> calls whose values are text, without a grammar library.

The official decoder parses with tree-sitter and takes the first call. This reader knows expressions and expression
statements, and turns their values into text as the official code does. Bodies of functions and of classes are skipped
where their brackets balance; other statements, comments and most of the parser's own error recovery are left out, and
count as not decodable. Of that recovery one rule is kept, because nearly every answer needs it: a Java statement may lack
its `;` unless it is so short (`f(a=1)`) that skipping it costs the parser less than inserting one.
"""

from eval.bfcl.foreign_java import Java
from eval.bfcl.foreign_javascript import JavaScript
from eval.bfcl.foreign_reader import NoCall

MAX_CHARS = 20_000                      # texts of chained calls are copied once per call


def decode_foreign(source: str, language: str) -> list[dict] | None:
    """The first call of `source` (without the list's brackets), `[{name: {argument: text}}]`; None if it holds none.

    Raises:
        NoCall, RecursionError: the text cannot be read.
    """
    if len(source) > MAX_CHARS:
        raise NoCall(f"{len(source)} characters; at most {MAX_CHARS} are read")
    return (Java if language == "java" else JavaScript)(source).program()
