"""Names of images as people write them. What is plainly fine is not parsed: the grammar is dear to import."""

from __future__ import annotations

from wherry.cli.errors import Failure

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def check(image: str) -> None:
    """Raise Failure where `image` is neither a reference nor an ID."""
    repository, _, tag = image.partition(":")
    if repository and _PLAIN.issuperset(repository.replace("/", "")) and _is_plain(repository, tag):
        return
    from wherry.errors import WherryError
    from wherry.model.reference import parse_any

    try:
        parse_any(image)
    except WherryError as error:
        raise Failure(str(error)) from None


def _is_plain(repository: str, tag: str) -> bool:
    whole = "/" not in tag and _PLAIN.issuperset(tag.replace(".", "")) and not tag.startswith((".", "-"))
    parts = repository.split("/")
    return whole and all(part and part[0] != "-" and part[-1] != "-" for part in parts) and len(repository) < 64


def familiar(image: str) -> str:
    """With the tag that is meant where there is none, without the default registry."""
    from wherry.model.reference import parse

    return parse(image).with_default_tag().familiar


def split(image: str) -> tuple[str, str]:
    """(name, tag or digest) for POST /images/create, the name with its registry."""
    from wherry.model.reference import parse

    reference = parse(image).with_default_tag()
    return reference.name, reference.digest or reference.tag
