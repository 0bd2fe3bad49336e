"""`build`: the options of a build, its context, and what becomes of the result."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import ExitStack

from wherry.cli.build_caches import Caches, layout_of
from wherry.cli.build_outputs import fields_of, read_outputs
from wherry.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from wherry.cli.context import Context
    from wherry.client.build_files import Directory
    from wherry.client.cache_directory import CacheDirectory
    from wherry.model.build_session import BuildOrder
    from wherry.model.dockerfile.options import Context as NamedContext
    from wherry.model.dockerfile.options import PlanOptions

_KNOWN_HOSTS_MAX = 1 << 18  # the order is one frame
_TAR_MAGIC = slice(257, 262)
_COMPRESSED = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0")
_REFUSED = (("squash", "squashing layers is not supported: use several stages and COPY what shall remain"),)


_SHORTHANDS = {"push": "type=registry", "load": "type=docker"}


class Sources:
    """Where the build's files come from, as the order and the session take them."""

    def __init__(self) -> None:
        self.dockerfile = b""
        self.dockerfile_name = "Dockerfile"
        self.context = "local"
        self.exclude: list[str] = []
        self.directories: dict[str, Directory] = {}
        self.archive: Iterable[bytes] = ()
        self.layouts: list[CacheDirectory] = []


def run(context: Context) -> int:
    flags = context.flags
    _refuse(context)
    sources = _sources(context)
    if flags.on("check") or flags.changed("plan"):
        return _only_plan(context, sources)
    shorthands = [text for name, text in _SHORTHANDS.items() if flags.on(name)]
    outputs, order_outputs = read_outputs([*shorthands, *flags.items("output")])
    order = _order(context, sources, order_outputs)
    caches = Caches(sources.layouts)
    order.cache_from = caches.read_from(flags.items("cache-from"))
    order.cache_to = caches.written_to(flags.items("cache-to"))
    secrets = _secrets(flags.items("secret"))
    with ExitStack() as keep:
        agents = _agents(_forwarded(flags.items("ssh"), sources.context), keep)
        order.secrets, order.agents = list(secrets), list(agents)
        order.known_hosts = _known_hosts() if agents else ""
        done = _run(context, order, sources, secrets, agents, outputs, caches)
    _report(context, done)
    return 0


def _refuse(context: Context) -> None:
    for name, why in _REFUSED:
        if context.flags.changed(name) and context.flags.given()[name]:
            raise Failure(why)
    if "," in _platform(context) and (context.flags.on("check") or context.flags.changed("plan")):
        raise Failure("--check and --plan are of one platform at a time")


def _platform(context: Context) -> str:
    """Those to build for, with commas between."""
    return ",".join(context.flags.items("platform"))


# the context


def _sources(context: Context) -> Sources:
    from wherry.model.dockerfile.git_urls import is_web, parse_git_url

    source, asked = context.arguments[0], context.flags.text("file")
    found = Sources()
    found.dockerfile_name = asked or "Dockerfile"
    if source == "-":
        if asked == "-":
            raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
        _from_stdin(found)
    elif os.path.isdir(source):
        _from_directory(found, source, asked)
    elif parse_git_url(source) is not None or is_web(source):
        found.context = source
        if asked == "-":
            found.dockerfile = sys.stdin.buffer.read()
    else:
        raise Failure(f'unable to prepare context: path "{source}" not found')
    return found


def _from_stdin(found: Sources) -> None:
    """A tar is the context; anything else is a Dockerfile for an empty one."""
    head = sys.stdin.buffer.read(512)
    found.context = "archive"
    if head[_TAR_MAGIC] == b"ustar" or head.startswith(_COMPRESSED):
        found.archive = _following(head)
        return
    found.dockerfile = head + sys.stdin.buffer.read()
    found.archive = [bytes(1024)]


def _following(head: bytes) -> Iterator[bytes]:
    yield head
    while piece := sys.stdin.buffer.read(1 << 20):
        yield piece


def _from_directory(found: Sources, source: str, asked: str) -> None:
    from wherry.client.build_files import Directory
    from wherry.model.dockerfile.ignore import ignore_file_names, read_patterns

    found.directories["context"] = Directory(source)
    if asked == "-":
        found.dockerfile = sys.stdin.buffer.read()
        candidates = [os.path.join(source, ".dockerignore")]
    else:
        path = asked or os.path.join(source, "Dockerfile")
        if asked and not os.path.exists(path) and not os.path.isabs(path):
            path = os.path.join(source, asked)
        found.dockerfile = _read(path)
        own, _ = ignore_file_names(os.path.basename(path))
        candidates = [os.path.join(os.path.dirname(path), own), os.path.join(source, ".dockerignore")]
    for candidate in candidates:
        if os.path.exists(candidate):
            found.exclude = read_patterns(_read(candidate).decode("utf-8", "surrogateescape"))
            break


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Failure(f"failed to read dockerfile: open {os.path.basename(path)}: {reason}") from None


def _named_contexts(found: Sources, given: list[str]) -> dict[str, Any]:
    from wherry.client.build_files import Directory
    from wherry.model.build_session import ContextOffer
    from wherry.model.dockerfile.ignore import read_patterns

    offers = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not (name and separator and value):
            raise Failure(f"invalid context value: {item}, expected key=value")
        name = name.lower()
        if value.startswith("docker-image://"):
            offers[name] = ContextOffer(image=value.removeprefix("docker-image://"))
        elif value.startswith("oci-layout://"):
            directory, ref = layout_of(value.removeprefix("oci-layout://"), f"{name}={value}")
            offers[name] = ContextOffer(layout=len(found.layouts), ref=ref)
            found.layouts.append(directory)
        elif value.startswith("target:"):
            raise Failure(f"the build context {name}={value}: targets are for bake: name a stage with COPY --from")
        elif os.path.isdir(value):
            found.directories[name] = Directory(value)
            ignored = os.path.join(value, ".dockerignore")
            patterns = (
                read_patterns(_read(ignored).decode("utf-8", "surrogateescape")) if os.path.exists(ignored) else []
            )
            offers[name] = ContextOffer(local=True, exclude=patterns)
        elif "://" in value or value.startswith("git@"):
            offers[name] = ContextOffer(url=value)
        else:
            raise Failure(f"failed to find local build context {value}: no such directory")
    return offers


# the order


def _order(context: Context, sources: Sources, outputs: list[Any]) -> BuildOrder:
    from wherry.cli.credentials import Store
    from wherry.model.build_session import BuildOrder, UlimitOption
    from wherry.model.credentials import Credentials, encode_many

    flags = context.flags
    main = sources.directories.get("context")
    auth = {server: Credentials(**_credentials(fields)) for server, fields in Store().all().items()}
    return BuildOrder(
        dockerfile=sources.dockerfile,
        dockerfile_name=sources.dockerfile_name if sources.dockerfile_name != "-" else "Dockerfile",
        context=sources.context,
        identity=main.identity if main is not None else "",
        exclude=sources.exclude,
        contexts=_named_contexts(sources, flags.items("build-context")),
        names=flags.items("tag"),
        target=flags.text("target"),
        platform=_platform(context),
        build_args=_arguments(flags.items("build-arg")),
        labels=dict(_pair(text) for text in flags.items("label")),
        no_cache=flags.on("no-cache"),
        no_cache_filter=[name for text in flags.items("no-cache-filter") for name in text.split(",")],
        pull=flags.on("pull"),
        network=flags.text("network"),
        extra_hosts=flags.items("add-host"),
        shm_size=flags.number("shm-size"),
        ulimits=[UlimitOption(item["Name"], item["Soft"], item["Hard"]) for item in flags.pairs("ulimit").values()],
        cgroup_parent=flags.text("cgroup-parent"),
        allow=flags.items("allow") + (["network.host"] if flags.text("network") == "host" else []),
        outputs=outputs,
        annotations=flags.items("annotation"),
        attestations=_attestations(context),
        registry_auth=encode_many(auth) if auth else "",
    )


def _credentials(fields: dict[str, str]) -> dict[str, str]:
    names = {
        "username": "username",
        "password": "password",
        "identitytoken": "identity_token",
        "registrytoken": "registry_token",
        "serveraddress": "server_address",
        "auth": "auth",
    }
    return {names[key]: value for key, value in fields.items() if key in names}


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _arguments(given: list[str]) -> dict[str, str]:
    """A name alone takes its value from the environment, and says nothing where that has none."""
    found = {}
    for text in given:
        name, separator, value = text.partition("=")
        if separator:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    if "SOURCE_DATE_EPOCH" in os.environ:
        found.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    return found


def _secrets(given: list[str]) -> dict[str, bytes]:
    found = {}
    for text in given:
        fields = fields_of(text, "--secret")
        name = fields.pop("id", "")
        kind = fields.pop("type", "")
        path = fields.pop("src", fields.pop("source", ""))
        variable = fields.pop("env", "")
        if fields or kind not in ("", "file", "env") or not name:
            raise Failure(f"invalid secret {text}: it is id=name, and src=path or env=variable")
        if not path and not variable:
            variable, path = (name, "") if name in os.environ or kind == "env" else ("", name)
        if kind == "env" and path:
            variable, path = path, ""
        if variable:
            found[name] = os.fsencode(os.environ.get(variable, ""))
            continue
        try:
            with open(path, "rb") as file:
                found[name] = file.read()
        except OSError as error:
            raise Failure(f"failed to stat {path}: {(error.strerror or '').lower()}") from None
    return found


def _forwarded(given: list[str], source: str) -> list[str]:
    """A repository that is reached by SSH needs an agent, whether one is named or not."""
    from wherry.model.dockerfile.git_urls import by_ssh, parse_git_url

    git = parse_git_url(source)
    return given or (["default"] if git is not None and by_ssh(git.remote) else [])


def _agents(given: list[str], keep: ExitStack) -> dict[str, str]:
    """Sockets by ID; agents that are made for key files live as long as `keep`."""
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        paths = value.split(",") if value else [os.environ.get("SSH_AUTH_SOCK", "")]
        if not paths[0]:
            raise Failure(f"invalid empty ssh agent socket: --ssh {text} needs SSH_AUTH_SOCK or the path of a key")
        try:
            sockets = [path for path in paths if stat.S_ISSOCK(os.stat(path).st_mode)]
        except OSError as error:
            raise Failure(f"failed to stat {error.filename}: {(error.strerror or '').lower()}") from None
        if sockets and len(paths) > 1:
            raise Failure(f"--ssh {text}: only a single socket is allowed, and no keys beside it")
        found[name or "default"] = sockets[0] if sockets else _key_agent(paths, keep)
    return found


def _key_agent(paths: list[str], keep: ExitStack) -> str:
    from wherry.client.key_agents import KeyRefused, agent_of

    try:
        return keep.enter_context(agent_of(paths))
    except KeyRefused as error:
        raise Failure(str(error)) from None


def _known_hosts() -> str:
    """What this user knows of hosts, for repositories that are reached by SSH."""
    try:
        with open(os.path.expanduser("~/.ssh/known_hosts"), encoding="utf-8", errors="replace") as file:
            return file.read(_KNOWN_HOSTS_MAX)
    except OSError:
        return ""


# what comes out


def _attestations(context: Context) -> dict[str, dict[str, str]]:
    """Those that are asked for, by type, with their options."""
    from wherry.errors import WherryError
    from wherry.model.attestations import check_options, truth

    flags = context.flags
    given = flags.items("attest")
    for kind in ("provenance", "sbom"):
        if text := flags.text(kind):
            on = truth(text)
            given.append(f"type={kind}," + (text if on is None else f"disabled={'false' if on else 'true'}"))
    found: dict[str, dict[str, str]] = {}
    for text in given:
        fields = fields_of(text, "attestation")
        kind = fields.pop("type", "")
        if not kind:
            raise Failure(f"attestation type not specified: {text}")
        if kind in found:
            raise Failure(f"duplicate attestation field {kind}")
        found[kind] = fields
    asked = {}
    for kind, fields in found.items():
        disabled = truth(fields.pop("disabled", "false"))
        if disabled is None:
            raise Failure(f"invalid value for the field disabled of the attestation {kind}: true or false")
        if not disabled:
            asked[kind] = fields
    try:
        check_options(asked)
    except WherryError as error:
        raise Failure(str(error)) from None
    return asked


# running it


def _run(
    context: Context,
    order: BuildOrder,
    sources: Sources,
    secrets: dict[str, bytes],
    agents: dict[str, str],
    outputs: dict[int, Callable[[Iterator[bytes]], None]],
    caches: Caches,
) -> dict[str, Any]:
    from wherry.cli.build_display import display
    from wherry.client.build_session import BuildFailed, Session

    quiet = context.flags.on("quiet")
    try:
        shown = display(
            "quiet" if quiet else context.flags.text("progress") or os.environ.get("BUILDKIT_PROGRESS", "auto")
        )
    except (KeyError, ValueError) as error:
        raise Failure(f"invalid progress mode: {error}") from None
    session = Session(
        context.engine,
        directories=sources.directories,
        secrets=secrets,
        agents=agents,
        archive=sources.archive,
        outputs=outputs,
        caches=caches.directories,
        tell=shown.tell,
    )
    try:
        return session.run(order)
    except BuildFailed as error:
        shown.close()
        raise Failure(_explained(error, sources, shown.failed())) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise Failure(f"open {error.filename}: {(error.strerror or '').lower()}") from None
    finally:
        session.close()
        shown.close()


def _explained(error: Any, sources: Sources, output: str) -> str:
    text = output
    if error.lines is not None and sources.dockerfile:
        from wherry.model.dockerfile.source import Lines, frame

        source = sources.dockerfile.decode("utf-8", "replace")
        text += frame(sources.dockerfile_name, source, Lines(*error.lines)) + "\n"
    return f"{text}ERROR: failed to build: failed to solve: {error.message}"


def _only_plan(context: Context, sources: Sources) -> int:
    from wherry.cli import buildplans
    from wherry.errors import InvalidParameter

    if not sources.dockerfile:
        raise Failure("--check and --plan need the Dockerfile here: give it with -f")
    form = context.flags.text("plan") or "text"
    if form not in buildplans.PLAN_FORMS:
        raise Failure(f"invalid argument for --plan: {form}: it is {' or '.join(buildplans.PLAN_FORMS)}")
    try:
        options = _plan_options(context, sources)
    except InvalidParameter as error:
        raise Failure(f"ERROR: failed to build: {error}") from None
    name = os.path.basename(sources.dockerfile_name) if sources.dockerfile_name != "-" else "Dockerfile"
    if context.flags.on("check"):
        return buildplans.check(context.engine, sources.dockerfile, name, options)
    return buildplans.show(context.engine, sources.dockerfile, name, options, form)


def _plan_options(context: Context, sources: Sources) -> PlanOptions:
    """The order as the engine would read it. Raises InvalidParameter."""
    from wherry.cli import buildplans
    from wherry.model import platforms
    from wherry.model.build_graph import Ulimit
    from wherry.model.dockerfile.options import MAIN_CONTEXT, ImageContext, LocalContext, PlanOptions

    flags, host = context.flags, buildplans.host_platform()
    asked, network = _platform(context), flags.text("network")
    build_args = _arguments(flags.items("build-arg"))
    contexts: dict[str, NamedContext] = {}
    for name, offer in _named_contexts(sources, flags.items("build-context")).items():
        if offer.url or offer.layout is not None:
            raise Failure(f"--check and --plan do not fetch the build context {name}={offer.url or 'oci-layout://'}")
        contexts[name] = ImageContext(offer.image) if offer.image else LocalContext(name, tuple(offer.exclude))
    return PlanOptions(
        host=host,
        target=flags.text("target"),
        platform=platforms.parse(asked, host) if asked else None,
        build_args=build_args,
        labels=dict(_pair(text) for text in flags.items("label")),
        pull=flags.on("pull"),
        network="" if network == "default" else network,
        extra_hosts=tuple(flags.items("add-host")),
        shm_size=flags.number("shm-size"),
        ulimits=tuple(Ulimit(item["Name"], item["Soft"], item["Hard"]) for item in flags.pairs("ulimit").values()),
        main=LocalContext(MAIN_CONTEXT, tuple(sources.exclude)),
        contexts=contexts,
        epoch=_epoch(build_args.get("SOURCE_DATE_EPOCH", "")),
        allow=frozenset(flags.items("allow")),
    )


def _epoch(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit()):
        raise Failure(f"invalid SOURCE_DATE_EPOCH: {text}: it is a number of seconds")
    return int(text) if text else None


def _report(context: Context, done: dict[str, Any]) -> None:
    flags = context.flags
    image = done.get("image", "")
    if path := flags.text("iidfile"):
        _write(path, _identity(done))
    if path := flags.text("metadata-file"):
        from wherry.model.jsontext import dumps, indent

        told = dict(sorted(_metadata(done).items()))
        _write(path, indent(dumps(told, sort=False), "  "))
    if flags.on("quiet") and image:
        print(_identity(done))


def _identity(done: dict[str, Any]) -> str:
    """What iidfile says: the image's ID, or the digest of the index there is above it."""
    descriptor = done.get("descriptor")
    image: str = done.get("image", "")
    return descriptor["digest"] if descriptor and not descriptor.get("platform") else image


def _metadata(done: dict[str, Any]) -> dict[str, Any]:
    """The keys that buildx writes. An image without a manifest of its own is known by its ID."""
    image, descriptor = done.get("image", ""), done.get("descriptor")
    told: dict[str, Any] = {}
    if descriptor is not None:
        told = {"containerimage.descriptor": descriptor, "containerimage.digest": descriptor["digest"]}
    elif image:
        told = {"containerimage.digest": done.get("digest", image)}
    if image and _identity(done) == image:
        told["containerimage.config.digest"] = image
    if done.get("names"):
        told["image.name"] = ",".join(done["names"])
    told |= {f"buildx.build.{key}": found for key, found in done.items() if key.startswith("provenance")}
    return told


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or '').lower()}") from None
