"""`--cache-from` and `--cache-to`: where results of builds are kept for others, as BuildKit's clients write it."""

from __future__ import annotations

from wherry.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.cache_directory import CacheDirectory
    from wherry.model.build_session import CachePlace


class Caches:
    """The places in the order they were given, and the directories that they name by number, after `others`."""

    def __init__(self, others: list[CacheDirectory]) -> None:
        self.directories = list(others)

    def read_from(self, given: list[str]) -> list[CachePlace]:
        """Raises Failure."""
        from wherry.cli.values import csv_fields
        from wherry.model.build_session import CachePlace

        found = []
        for text in given:
            fields = csv_fields(text)
            if not any("=" in field for field in fields):
                found += [CachePlace(ref=field) for field in fields if field]
            else:
                found.append(self._place("--cache-from", text, "src"))
        return found

    def written_to(self, given: list[str]) -> list[CachePlace]:
        """Raises Failure."""
        from wherry.model.build_session import CachePlace

        return [
            self._place("--cache-to", text, "dest") if "=" in text else CachePlace(ref=text) for text in given if text
        ]

    def _place(self, flag: str, text: str, directory: str) -> CachePlace:
        from wherry.cli.values import csv_fields
        from wherry.client.cache_directory import CacheDirectory
        from wherry.model.build_session import CachePlace

        fields: dict[str, str] = {}
        for field in csv_fields(text):
            key, separator, value = field.partition("=")
            if not separator:
                raise Failure(f"invalid field '{field}' must be a key=value pair: {flag} {text}")
            fields[key.strip().lower()] = value
        place = CachePlace(type=fields.pop("type", ""))
        if place.type not in ("registry", "local", "inline"):
            raise Failure(f"{flag} {text}: caches of type {place.type} are not supported: registry, local or inline")
        if place.type == "local":
            path = fields.pop(directory, "")
            if not path:
                raise Failure(f"{flag} {text}: {directory} is required for a local cache")
            place.directory = len(self.directories)
            self.directories.append(CacheDirectory(path))
            place.tag = fields.pop("tag", place.tag)
            place.digest = fields.pop("digest", "") if directory == "src" else ""
        elif place.type == "registry":
            place.ref = fields.pop("ref", "")
        if directory == "dest":
            place.mode = fields.pop("mode", place.mode)
            place.compression = fields.pop("compression", place.compression)
            place.ignore_error = _on(fields.pop("ignore-error", "false"), flag, text)
            place.oci_mediatypes = _on(fields.pop("oci-mediatypes", "true"), flag, text)
            shape = fields.pop("image-manifest", "true" if place.oci_mediatypes else "false")
            place.image_manifest = _on(shape, flag, text)
        if fields:
            raise Failure(f"{flag} {text}: {min(fields)} is not supported")
        return place


def layout_of(text: str, context: str) -> tuple[CacheDirectory, str]:
    """`PATH[:TAG][@DIGEST]` as the directory and the tag or digest. Raises Failure."""
    import os

    from wherry.client.cache_directory import CacheDirectory

    path, at, digest = text.partition("@")
    tag = ""
    if not os.path.isdir(path):
        path, _, tag = path.rpartition(":")
    if at and not digest.startswith("sha256:"):
        raise Failure(f"the build context {context}: invalid digest {digest}")
    if not os.path.isfile(os.path.join(path, "index.json")):
        raise Failure(f"the build context {context}: no OCI layout is there (no index.json)")
    return CacheDirectory(path), digest or tag


def _on(value: str, flag: str, text: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise Failure(f"{flag} {text}: {value} is neither true nor false")
    return value.lower() in ("true", "1")
