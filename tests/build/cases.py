"""The Dockerfiles that are built by both. BASE is an image of busybox that both engines have."""
# ruff: noqa: E501

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BASE = "wherry-test-build-base:latest"
ON_BUILD = "wherry-test-build-onbuild:latest"


@dataclass(frozen=True)
class Made:
    """A file of the context; `link` for a symlink, `folder` for an empty directory."""

    data: bytes = b""
    mode: int = 0o644
    link: str = ""
    folder: bool = False


@dataclass(frozen=True)
class Case:
    """`files` are the context; `arguments` those of `build`, as all builders have them."""

    name: str
    dockerfile: str
    files: Mapping[str, Made] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    contexts: Mapping[str, Mapping[str, Made]] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict)


def _archive(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid, info.mtime = len(data), 0o640, 7, 8, 1_500_000_000
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


FILES: Mapping[str, Made] = {
    "a": Made(b"a\n"),
    "b.txt": Made(b"b\n", 0o600),
    "run.sh": Made(b"#!/bin/sh\necho ran\n", 0o755),
    "d/one.txt": Made(b"1\n"),
    "d/two.log": Made(b"2\n"),
    "d/e/three.txt": Made(b"3\n", 0o400),
    "d/link": Made(link="one.txt"),
    "d/empty": Made(folder=True),
    "to-d": Made(link="d"),
    "with space": Made(b"s\n"),
    "archive.tgz": Made(_archive(inside=b"x", other=b"y")),
}

_BASED = f"FROM {BASE}\n"


def of_base(name: str, text: str, *arguments: str, files: Mapping[str, Made] = FILES, **more: Any) -> Case:
    return Case(name, _BASED + text, files, arguments, **more)


LANGUAGE = (
    of_base("nothing", "LABEL only=this\n"),
    Case("scratch", "FROM scratch\nCOPY a /\n", FILES),
    Case("scratch-env", "FROM scratch\nENV A=b\nCOPY a /\n", FILES),
    of_base("env-forms", "ENV A=1 B=\"two words\" C='$A' D=a\\ b E=\"say \\\"x\\\"\"\nENV OLD style $A  x \nENV A=$A$B\n"),
    of_base("env-replaced", "ENV X=1\nENV Y=2\nENV X=3 PATH=/bin:/sbin\n"),
    of_base("env-in-one", "ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n"),
    of_base("label-forms", 'LABEL a=b "c d"="e f" multi="x\\\ny" empty=""\nLABEL old style here\nLABEL $A=b\n'),
    of_base(
        "expansion",
        "ENV x=foo y= path=/usr/lib/x.tar.gz p2=a/b/a/b\n"
        "ENV A=${x:-d} B=${y:-d} C=${z:-d} D=${x-d} E=${y-d} F=${z-d}\n"
        "ENV G=${x:+alt} H=${y:+alt} I=${z:+alt} J=${x+alt} K=${y+alt} L=${z+alt}\n"
        "ENV M=${path#*/} N=${path##*/} O=${path%.*} P=${path%%.*} Q=${p2/a/X} R=${p2//a/X} S=${path/usr?l/Z}\n"
        "ENV T=${x:-${y:-${z:-deep}}} U=\\$x V='$x' W=\"$x-${x}\" XX=$x_ YY=${x}_ ZZ=$\n"
        "ENV AA=${x#fo} AB=${x%o} AC=${x%%o*} AD=${p2//b\\/a/-} AE=${path//[/Q} AF=${x?no}\n"
        "ENV AG=\"${x:+'q'}\" AH=\"${x:+a b}\" AI=${path##*.} AJ=$1a AK=$$ AL=${x:?no} AM=a$(b)c\n",
    ),
    of_base("arg", "ARG A\nARG B=default\nARG C=$B-x D\nENV E=$A$B$C$D\nRUN true\n", "--build-arg", "A=given"),
    Case(
        "arg-scopes",
        f"ARG G=global\nARG BASE={BASE}\nFROM $BASE\nARG G\nARG L=$G\nENV X=$G$L\nRUN true\n"
        "ARG G=local\nENV Y=$G\nRUN true\n",
    ),
    Case("arg-overridden", f"ARG V=1\nFROM {BASE}\nARG V=2\nENV X=$V\n", arguments=("--build-arg", "V=3")),
    of_base("arg-env-wins", "ARG A=arg\nENV A=env\nRUN true\nARG A=again\nENV B=$A\nRUN true\n"),
    of_base("arg-platforms", "ARG TARGETPLATFORM\nARG BUILDARCH TARGETOS TARGETVARIANT\nENV X=$TARGETPLATFORM\nRUN true\n"),
    of_base("arg-proxy", "ARG HTTP_PROXY\nRUN echo $HTTP_PROXY >/p\n", "--build-arg", "HTTP_PROXY=http://p:1"),
    of_base("user-workdir", "WORKDIR a\nWORKDIR b/../c\nUSER 1000:1000\nWORKDIR /made/by/user\nWORKDIR /\nUSER u\nWORKDIR d\n"),
    of_base("workdir-env", "ENV W=/from/env\nWORKDIR $W/x\nRUN pwd >here\n"),
    of_base("cmd-entrypoint", 'CMD echo "a  b" $HOME\nENTRYPOINT ["/bin/sh", "-c", "x \\"y\\" \\u00e9"]\n'),
    of_base("entrypoint-clears-cmd", 'ENTRYPOINT ["/bin/true"]\n'),
    of_base("cmd-empty", "CMD []\nENTRYPOINT []\n"),
    of_base("shell", 'SHELL ["/bin/ash", "-e", "-c"]\nRUN echo $0 >/s\nCMD x\nENTRYPOINT y\n'),
    of_base("expose", "ENV P=99\nEXPOSE 80 443/TCP 53/udp 1000-1002 $P\nEXPOSE 80\n"),
    of_base("volume", 'VOLUME /a /b\nVOLUME ["/c d", "/e"]\nENV V=/v\nVOLUME $V\n'),
    of_base("stopsignal", "ENV S=USR1\nSTOPSIGNAL SIG$S\nSTOPSIGNAL 9\n"),
    of_base(
        "healthcheck",
        "HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --start-interval=500ms --retries=3 CMD test -f /x\n",
    ),
    of_base("healthcheck-json", 'HEALTHCHECK CMD ["test", "-f", "/x"]\n'),
    of_base("healthcheck-none", "HEALTHCHECK NONE\n"),
    of_base("maintainer", "MAINTAINER Some One <a@b>\n"),
    of_base("onbuild", 'ONBUILD RUN echo hi\nonbuild COPY a /\nONBUILD ENV x=$y\n'),
    Case("onbuild-triggered", f"FROM {ON_BUILD}\nRUN cat /from-trigger\n", FILES),
    Case("onbuild-stage", f"FROM {BASE} AS one\nONBUILD ENV A=b\nONBUILD RUN echo $A >/t\nFROM one\nENV C=$A\n", FILES),
    of_base("onbuild-heredoc", "ONBUILD RUN <<EOF\necho x\nEOF\n"),
    of_base("case", "env A=b\nRun true\nlabel x=$A\n"),
    of_base("continuations", "RUN echo a \\\n  # a comment\n\n   b \\\n\\\n c >/x\nENV A=b\\\nc\\\n D=e\n"),
    of_base("comments", "# one\n  # two\nENV A=b #c=d\nRUN echo '# no' # yes >/n\n"),
    Case("escape", f"# escape=`\nFROM {BASE}\nENV A=a`\nb C=`$x D=\\x\nRUN echo a `\n b\n"),
    Case("crlf", f"FROM {BASE}\r\nENV A=b\\\r\n C=d\r\nRUN echo x >/y\r\nCMD [\"a\"]\r\n"),
    Case("bom", f"\ufeffFROM {BASE}\nENV A=é\n"),
    Case(
        "target",
        f"FROM {BASE} AS one\nENV A=1\nFROM one AS two\nENV B=2\nFROM scratch\nCOPY nothing /\n",
        arguments=("--target", "two"),
    ),
    of_base("labels-given", "LABEL a=b c=d\n", "--label", "a=z", "--label", "e=f"),
    of_base("json-not-quite", "CMD [ 'a' ]\nVOLUME [/a, /b]\n"),
    of_base("unicode", "ENV A=\u00e9\u4e2d B='\u00e9 x'\nLABEL \u00e9=\u00e8\nRUN echo \u00e9 >/\u00e9\n"),
    of_base("tabs", "ENV\tA=b\tC=d\nRUN\ttrue\nEXPOSE\t80\t81\n"),
    of_base("env-quoted-key", "ENV 'A'=b \"C\"=d E='f'g\"h\"\n"),
    of_base("no-final-newline", "ENV A=b"),
    of_base("arg-quoted", "ARG A='x y'\nARG B=\"$A z\" C=\nENV D=$B$C\nRUN true\n"),
)  # fmt: skip

STAGES = (
    Case(
        "stages",
        f"FROM {BASE} AS build\nARG X=1\nWORKDIR /src\nCOPY d .\nRUN cat one.txt e/three.txt >/out\n"
        f"FROM {BASE} AS unused\nRUN false\n"
        f"FROM build AS more\nRUN echo $X >>/out\n"
        f"FROM {BASE}\nCOPY --from=build /out /one\nCOPY --from=2 /out /two\nCOPY --from={BASE} /etc/passwd /p\n",
        FILES,
    ),
    Case("stage-case", f"FROM {BASE} AS Build\nRUN echo x >/x\nFROM scratch\nCOPY --from=BUILD /x /\n"),
    Case("stage-of-arg", f"ARG N=one\nFROM {BASE} AS one\nENV A=1\nFROM {BASE} AS two\nENV A=2\nFROM $N\nENV B=$A\n"),
    Case("platform", f"FROM --platform=$BUILDPLATFORM {BASE} AS b\nRUN true\nFROM --platform=linux/amd64 {BASE}\nCOPY --from=b /bin/sh /x\n"),
    Case("shadowed-name", f"FROM {BASE} AS a\nENV X=1\nFROM a AS a\nENV X=2\nFROM a\nENV Y=$X\n"),
)  # fmt: skip

FILESYSTEM = (
    of_base("copy-file", "COPY a /\nCOPY a /x\nCOPY a /dir/\nCOPY a b.txt /many/\n"),
    of_base("copy-dir", "COPY d /d\nCOPY d /d2/\nCOPY d/ /d3\nCOPY . /all/\n"),
    of_base("copy-relative", "WORKDIR /w\nCOPY a x\nCOPY a ./\nCOPY a sub/\nCOPY a .\n"),
    of_base("copy-wildcards", "COPY *.txt /\nCOPY d/*.?og /x/\nCOPY [ab]* /y/\nCOPY d/* /z/\n"),
    of_base("copy-json", 'COPY ["with space", "/to here/"]\n'),
    of_base("copy-chown", "COPY --chown=1000:77 d /a\nCOPY --chown=u a /b\nCOPY --chown=u:extra a /c\nCOPY --chown=5 a /e\nCOPY --chown=:77 a /f\n"),
    of_base("copy-chown-new-folders", "COPY --chown=1000:1000 a /new/deep/er/\n"),
    of_base("copy-chmod", "COPY --chmod=750 d /a\nCOPY --chmod=0644 run.sh /b\nCOPY --chmod=4755 a /c\n"),
    of_base("copy-over", "RUN mkdir /x && echo old >/x/a && mkdir /d && echo keep >/d/kept && chmod 700 /d\nCOPY a /x\nCOPY d /d\n"),
    of_base("copy-through-symlink", "RUN mkdir /real && ln -s real /linked\nCOPY a /linked/\nCOPY d /linked\n"),
    of_base(
        "copy-onto-symlinks",
        "RUN mkdir /real && echo old > /real/f && ln -s /real/f /l && ln -s /nowhere/there /e && ln -s ../../lost/dir /d\n"
        "COPY a /l\nCOPY a /e\nCOPY a /d/\nCOPY d /d/in\nADD archive.tgz /d/out\n",
    ),
    of_base("copy-symlink-source", "COPY d/link /plain\nCOPY to-d /folder\nCOPY to-d/one.txt /f\n"),
    of_base("copy-link", "COPY --link a /new/x\nCOPY --link --chown=5:6 d /d\n"),
    of_base("copy-heredoc", "ENV A=b\nCOPY <<one <<-\"two\" /docs/\nvalue $A \\$A ${A:-c} 'q$A' \\n\none\n\t\tkept $A\n\ttwo\nCOPY <<EOF /file\nx\nEOF\n"),
    of_base("copy-heredoc-owner", "COPY --chown=5:6 --chmod=700 <<EOF /file\nx\nEOF\nADD <<EOF a /mixed/\ny\nEOF\n"),
    of_base("copy-user", "USER u\nCOPY a /root-owned\nWORKDIR /home/u\nCOPY a .\n"),
    of_base("copy-empty-dir", "COPY d/empty /e\n"),
    of_base("add-archive", "ADD archive.tgz /x\nADD archive.tgz /y/\nADD a archive.tgz /z/\n"),
    of_base("add-chown", "ADD --chown=9:10 archive.tgz /x\nADD --chown=9:10 --chmod=711 a /y\n"),
    of_base("add-plain", "ADD d /d\nADD a /\n"),
    of_base("copy-archive-kept", "COPY archive.tgz /x/\n"),
    of_base("workdir-owner", "USER 1000\nWORKDIR /w/x\nUSER 5:6\nWORKDIR y\n"),
    of_base("run-forms", "RUN echo shell >/a; echo $HOME >/b\nRUN [\"sh\", \"-c\", \"echo exec >/c\"]\nUSER u\nRUN id >/tmp/id; pwd >/tmp/pwd; env | sort | grep -v HOSTNAME >/tmp/env\n"),
    of_base("run-heredoc", "RUN <<EOF\nmkdir /h\necho $((1+1)) >/h/two\nEOF\nRUN <<EOF sh -s x\necho $1 >/h/arg\nEOF\nRUN <<-EOF\n\techo tab >/h/tab\nEOF\nRUN <<EOF\n#!/bin/ash\necho $0 >/h/zero\nEOF\nRUN cat <<A >/h/a && cat <<B >/h/b\none\nA\ntwo\nB\n"),
    of_base("run-removes", "RUN rm -rf /seeded/sub /www/index.html && mkdir /www/new && rm -rf /home && mkdir /home\n"),
    of_base("run-changes", "RUN chmod 600 /www/index.html; chown 5:6 /www; ln -s x /l; ln /www/index.html /hard; mkfifo /p\n"),
    of_base("mount-bind", "RUN --mount=type=bind,source=d,target=/m cat /m/one.txt >/x\nRUN --mount=target=/m,rw echo y >/m/new; ls /m | wc -l >/n\n"),
    Case("mount-bind-from", f"FROM {BASE} AS o\nRUN echo o >/o\nFROM {BASE}\nRUN --mount=from=o,src=/o,dst=/o cat /o >/x\nRUN --mount=from={BASE},target=/b ls /b/bin/sh >/y\n"),
    of_base("mount-cache", "RUN --mount=type=cache,target=/c,id=wt-cache-$NAME,mode=0711,uid=5,gid=6 ls -ldn /c | cut -d' ' -f1,3-8 | sed 's/ .*2026.*//' | cut -c1-10 >/x; echo 1 >/c/f\n"),
    of_base("mount-tmpfs", "RUN --mount=type=tmpfs,target=/t,size=1m echo x >/t/f && grep -c ' /t tmpfs' /proc/mounts >/x\n"),
    of_base("mount-secret", "RUN --mount=type=secret,id=s cat /run/secrets/s >/x; stat -c '%a %u %g' /run/secrets/s >>/x\nRUN --mount=type=secret,id=s,target=/sec,mode=0444,uid=5,gid=6 stat -c '%a %u %g' /sec >/y\nRUN --mount=type=secret,id=missing ls /run/secrets 2>&1 >/z || true\n", secrets={"s": b"hidden\n"}),
    of_base("network-none", "RUN --network=none ls /sys/class/net >/x\n"),
    Case("ignored", f"FROM {BASE}\nCOPY . /all/\n", {**FILES, ".dockerignore": Made(b"d\n!d/e\n*.txt\n# c\n\n!b.txt\n/run.sh\n")}),
    Case("ignored-deep", f"FROM {BASE}\nCOPY . /all/\n", {**FILES, ".dockerignore": Made(b"**/*.txt\n!**/three.txt\nd/*/\nto-*\n")}),
    Case("ignored-all-but", f"FROM {BASE}\nCOPY . /all/\n", {**FILES, ".dockerignore": Made(b"*\n!d/one.txt\n!a\n")}),
    Case("ignored-by-name", f"FROM {BASE}\nCOPY . /all/\n", {**FILES, ".dockerignore": Made(b"a\n"), "Dockerfile.dockerignore": Made(b"b.txt\n")}),
    of_base("built-from-scratch-copy", "FROM scratch\nCOPY --from=0 /etc /etc\nCOPY --from=0 /bin/busybox /\n"),
    of_base("named-context", "COPY --from=other thing /\nRUN --mount=from=other,target=/o cat /o/thing >/y\n", contexts={"other": {"thing": Made(b"t\n")}}),
    of_base("copy-nested-dest", "COPY a b.txt /p/q/r/\nCOPY d /p/q/r/s/t\n"),
    of_base("hostname-files", "RUN cat /etc/hosts | grep -c localhost >/x; test -s /etc/resolv.conf && echo yes >>/x\n"),
)  # fmt: skip

# A file of only ARG is not among them: it ends the real engine of 26.1 (a panic), as its log shows.
BROKEN = (
    Case("unknown-instruction", f"FROM {BASE}\nRUNN x\n"),
    Case("unknown-lower", f"FROM {BASE}\ncopyy x y\n"),
    Case("unknown-far", f"FROM {BASE}\nfrobnicate x y\n"),
    Case("unknown-flag", f"FROM {BASE}\nCOPY --chownn=1 a b\n"),
    Case("unknown-flag-far", f"FROM {BASE}\nCOPY --frobnicate=1 a b\n"),
    Case("flag-twice", f"FROM {BASE}\nCOPY --chown=1 --chown=2 a b\n"),
    Case("flag-no-value", f"FROM {BASE}\nCOPY --chown a b\n"),
    Case("flag-bool", f"FROM {BASE}\nCOPY --link=maybe a b\n"),
    Case("empty", "\n"),
    Case("only-comment", "# x\n"),
    Case("no-from", "RUN x\n"),
    Case("from-args", "FROM a b\n"),
    Case("from-name", f"FROM {BASE} AS 1x\n"),
    Case("from-blank", "FROM $nothing\n"),
    Case("from-upper", "FROM Upper\n"),
    Case("from-platform", f"FROM --platform=a/b/c/d {BASE}\nRUN true\n"),
    Case("copy-one", f"FROM {BASE}\nCOPY a\n"),
    Case("copy-missing", f"FROM {BASE}\nCOPY missing /\n", FILES),
    Case("copy-heredoc-dest", f"FROM {BASE}\nCOPY a <<EOF\nx\nEOF\n"),
    Case("unterminated", f"FROM {BASE}\nRUN <<EOF\nx\n"),
    Case("env-one", f"FROM {BASE}\nENV A\n"),
    Case("env-no-equals", f"FROM {BASE}\nENV A=b C\n"),
    Case("env-blank", f"FROM {BASE}\nENV =x\n"),
    Case("env-none", f"FROM {BASE}\nENV\n"),
    Case("label-none", f"FROM {BASE}\nLABEL\n"),
    Case("arg-none", f"FROM {BASE}\nARG\n"),
    Case("arg-blank", f"FROM {BASE}\nARG =x\n"),
    Case("cmd-json-mixed", f'FROM {BASE}\nCMD ["a", 1]\n'),
    Case("shell-not-json", f"FROM {BASE}\nSHELL /bin/sh -c\n"),
    Case("shell-empty", f"FROM {BASE}\nSHELL []\n"),
    Case("user-none", f"FROM {BASE}\nUSER\n"),
    Case("workdir-none", f"FROM {BASE}\nWORKDIR\n"),
    Case("expose-none", f"FROM {BASE}\nEXPOSE\n"),
    Case("expose-bad", f"FROM {BASE}\nEXPOSE 80/xyz\n"),
    Case("expose-range", f"FROM {BASE}\nEXPOSE 90-80\n"),
    Case("expose-word", f"FROM {BASE}\nEXPOSE web\n"),
    Case("volume-none", f"FROM {BASE}\nVOLUME\n"),
    Case("volume-empty", f'FROM {BASE}\nVOLUME ["/a", " "]\n'),
    Case("stopsignal-bad", f"FROM {BASE}\nSTOPSIGNAL NOPE\n"),
    Case("stopsignal-none", f"FROM {BASE}\nSTOPSIGNAL\n"),
    Case("health-type", f"FROM {BASE}\nHEALTHCHECK FOO x\n"),
    Case("health-none-args", f"FROM {BASE}\nHEALTHCHECK NONE x\n"),
    Case("health-no-command", f"FROM {BASE}\nHEALTHCHECK CMD\n"),
    Case("health-interval", f"FROM {BASE}\nHEALTHCHECK --interval=5 CMD x\n"),
    Case("health-short", f"FROM {BASE}\nHEALTHCHECK --interval=5us CMD x\n"),
    Case("health-retries", f"FROM {BASE}\nHEALTHCHECK --retries=x CMD x\n"),
    Case("health-retries-negative", f"FROM {BASE}\nHEALTHCHECK --retries=-1 CMD x\n"),
    Case("onbuild-onbuild", f"FROM {BASE}\nONBUILD ONBUILD RUN x\n"),
    Case("onbuild-from", f"FROM {BASE}\nONBUILD FROM x\n"),
    Case("onbuild-none", f"FROM {BASE}\nONBUILD\n"),
    Case("escape-bad", f"# escape=x\nFROM {BASE}\n"),
    Case("directive-twice", f"# escape=`\n# escape=\\\nFROM {BASE}\n"),
    Case("expand-brace", f"FROM {BASE}\nENV A=${{x\n"),
    Case("expand-bad", f"FROM {BASE}\nENV A=${{}}\n"),
    Case("expand-modifier", f"FROM {BASE}\nENV A=${{x:=y}}\n"),
    Case("expand-required", f"FROM {BASE}\nENV A=${{x:?must be given}}\n"),
    Case("expand-quote", f"FROM {BASE}\nENV A='x\n"),
    Case("expand-double", f"FROM {BASE}\nWORKDIR \"x\n"),
    Case("mount-type", f"FROM {BASE}\nRUN --mount=type=bnd,target=/x true\n"),
    Case("mount-key", f"FROM {BASE}\nRUN --mount=type=bind,targt=/x true\n"),
    Case("mount-field", f"FROM {BASE}\nRUN --mount=type=bind,foo true\n"),
    Case("mount-target", f"FROM {BASE}\nRUN --mount=type=tmpfs,target=/ true\n"),
    Case("mount-mode", f"FROM {BASE}\nRUN --mount=type=bind,target=/x,mode=0700 true\n"),
    Case("mount-sharing", f"FROM {BASE}\nRUN --mount=type=cache,target=/x,sharing=none true\n"),
    Case("mount-secret-sharing", f"FROM {BASE}\nRUN --mount=type=secret,id=s,sharing=locked true\n"),
    Case("mount-secret-from", f"FROM {BASE}\nRUN --mount=type=secret,id=s,from={BASE} true\n"),
    Case("mount-secret-both", f"FROM {BASE}\nRUN --mount=type=secret,id=s,src=t true\n"),
    Case("mount-size", f"FROM {BASE}\nRUN --mount=type=cache,target=/x,size=1m true\n"),
    Case("mount-required", f"FROM {BASE}\nRUN --mount=type=cache,target=/x,required true\n"),
    Case("mount-no-target", f"FROM {BASE}\nRUN --mount=type=cache true\n"),
    Case("mount-secret-none", f"FROM {BASE}\nRUN --mount=type=secret true\n"),
    Case("mount-from-variable", f"FROM {BASE}\nRUN --mount=from=$x,target=/y true\n"),
    Case("network-bad", f"FROM {BASE}\nRUN --network=nonee true\n"),
    Case("network-host", f"FROM {BASE}\nRUN --network=host true\n"),
    Case("from-variable", f"FROM {BASE}\nCOPY --from=$x a /\n"),
    Case("from-index", f"FROM {BASE}\nCOPY --from=7 /a /\n"),
    Case("from-later", f"FROM {BASE} AS a\nCOPY --from=b /x /\nFROM {BASE} AS b\nFROM a\nCOPY --from=b /x /\n"),
    Case("target-missing", f"FROM {BASE} AS build\nRUN true\n", arguments=("--target", "bild")),
    Case("copy-url", f"FROM {BASE}\nCOPY http://127.0.0.1:1/x /\n"),
    Case("add-checksum-local", f"FROM {BASE}\nADD --checksum=sha256:{'0' * 64} a /\n", FILES),
    Case("run-fails", f"FROM {BASE}\nRUN exit 3\n"),
    Case("maintainer-none", f"FROM {BASE}\nMAINTAINER\n"),
    Case("json-run-number", f"FROM {BASE}\nRUN [1]\n"),
)  # fmt: skip

ODDS = (
    "RUN",
    "CMD",
    "ENTRYPOINT",
    "COPY --from=0 /a /b",
    "ENV A=1 \\\n  B=2 \\\n# x\n  C=3",
    'LABEL a.b-c/d=1 "x"=2',
    "ADD --chown=u:extra a /x",
    'VOLUME ["/a b"]',
    "EXPOSE 80:90",
    "EXPOSE [80]",
    "EXPOSE 99999",
    "USER ''",
    "USER",
    "WORKDIR ''",
    'WORKDIR "/a b"',
    'ENV X="a\\\nb"',
    'SHELL ["a","b"]\nRUN ["true"]',
    "ARG A B=1 C",
    "ARG 'x y'=1",
    "ARG A=${B:-c}\nENV D=$A",
    "ENV A=$(x)",
    "ENV A=`x`",
    'LABEL "a b"=c d=e\\ f',
    "ENV a=b\\\\c",
    "ENV \\\n\nA=b",
    'HEALTHCHECK --timeout=1h CMD ["a"]\nHEALTHCHECK NONE',
    "ONBUILD COPY --from=0 /a /b",
    "COPY --chmod=u+x a /b",
    "COPY --chown=$U a /b",
    "ENV U=5\nCOPY --chown=$U:6 a /b",
    "ENV D=/x\nCOPY a ${D}/y",
    "COPY a b.txt /nodir",
    "COPY a ../../x",
    "ADD archive.tgz ./",
    "STOPSIGNAL 0",
    "STOPSIGNAL 64",
    "STOPSIGNAL rtmin+3",
    'MAINTAINER "q" $X',
    "RUN echo \\\n",
    "RUN <<EOF\nEOF\n",
    "COPY <<EOF <<EOF2 /d/\na\nEOF\nb\nEOF2\n",
    "ENV A='a\"b' B=\"a'b\"",
    "RUN --network=none true",
    "RUN --mount=type=tmpfs,target=/x,size=1x true",
)
"""Corners of the language; some build, some are refused. Each comes after `FROM BASE`."""
