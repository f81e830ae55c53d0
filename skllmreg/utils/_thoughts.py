"""Tell the answer of a model from what it has thought aloud before it."""

import re

# Tags with which thoughts begin a text: of most models, of Magistral, of Kimi.
_OPENING = re.compile(
    r"\s*(<(?:think|thinking|thoughts?|reasoning|seed:think)>|\[THINK\]|◁think▷)", re.I
)
# Where it ends though it did not begin: the template of the prompt has opened it.
_CLOSING = "</think>"
# The channels of gpt-oss ("harmony"), where a server passes them on.
_CHANNEL = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>")
_FINAL = re.compile(r"<\|channel\|>final[^<]*<\|message\|>")
_END = re.compile(r"<\|(?:return|end)\|>\s*$")


def split_thoughts(text: str) -> tuple[int, str] | None:
    """Where the answer begins in a text, and the answer.

    Parameters
    ----------
    text : str
        An answer that may begin with thoughts.

    Returns
    -------
    (int, str) or None
        None where there are thoughts and no answer after them.
    """
    if _CHANNEL.match(text):
        final = [*_FINAL.finditer(text)]
        begin, end = final[-1].end() if final else len(text), _END.search(text)
        answer = text[begin : end.start() if end else None]
        return (begin, answer) if answer.strip() else None
    begin = 0
    while opening := _OPENING.match(text, begin):
        closing = re.escape(f"{opening[1][0]}/{opening[1][1:]}")
        closed = [*re.finditer(closing, text[opening.end() :], re.I)]
        if not closed:
            return None
        begin = opening.end() + closed[-1].end()
    if begin:
        return (begin, text[begin:]) if text[begin:].strip() else None
    thoughts, _, answer = text.rpartition(_CLOSING)
    # With nothing after it, it may as well be a stray end of the answer.
    return (len(text) - len(answer), answer) if thoughts and answer.strip() else (0, text)
