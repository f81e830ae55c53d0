"""Words of the user in prompts: on one line, encodable, and as keys that a model can copy."""


def on_one_line(text):
    """Bring a text onto one line."""
    return " ".join(str(text).split())


def sendable(text):
    """Write half of a surrogate pair, which UTF-8 cannot, as the escape that JSON has for it."""
    return text.encode("utf-8", "backslashreplace").decode()


def answer_keys(names):
    """Key in the answer for each name: the name itself if a model can copy it without fail.

    Not so long names, and those with quotes, line breaks, invisible characters, or letters outside
    of ASCII, which look alike or are normalized on the way.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    dict of str to str
        By name.
    """
    keys, taken = {}, set(names)
    for i, name in enumerate(names, start=1):
        key = name
        if not _is_plain(name):
            key = f"feature_{i}"
            while key in taken:
                key += "_"
            taken.add(key)
        keys[name] = key
    return keys


def _is_plain(name):
    return (
        0 < len(name) <= 64
        and name.isascii()
        and name.isprintable()
        and name == on_one_line(name)
        and not set('"\\`') & set(name)
    )
