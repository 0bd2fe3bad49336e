"""More of what people write: shapes of real projects, and the corners of each flag. BASE has busybox and nothing else."""
# ruff: noqa: E501

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile

import zstandard

from tests.build.cases import BASE, FILES, Case, Made, of_base
from tests.support.images import Entry, folder, symlink, tar

_MEMBERS = tar(
    [
        folder("pack", 0o750, 5, 6),
        Entry("pack/file", b"content\n", mode=0o4711, uid=7, gid=8),
        Entry("pack/hard", kind=tarfile.LNKTYPE, link="pack/file", mode=0o4711, uid=7, gid=8),
        symlink("pack/soft", "file"),
        Entry("pack/fifo", kind=tarfile.FIFOTYPE, mode=0o600),
        Entry("loose", b"loose\n", mode=0o600),
    ]
)

ARCHIVES = {
    "plain.tar": Made(_MEMBERS),
    "pack.tar.gz": Made(gzip.compress(_MEMBERS, mtime=0)),
    "pack.tar.xz": Made(lzma.compress(_MEMBERS)),
    "pack.tar.bz2": Made(bz2.compress(_MEMBERS)),
    "pack.tar.zst": Made(zstandard.compress(_MEMBERS)),
    "only.gz": Made(gzip.compress(b"no archive\n", mtime=0)),
    "misnamed.txt": Made(gzip.compress(_MEMBERS, mtime=0)),
    "empty.tar": Made(tar([])),
    "broken.tar": Made(_MEMBERS[:700]),
}

LINKS = {
    "real/file": Made(b"file\n"),
    "real/deep/other": Made(b"other\n", 0o751),
    "in/to-file": Made(link="../real/file"),
    "in/to-dir": Made(link="../real"),
    "in/dangling": Made(link="nowhere"),
    "in/absolute": Made(link="/real/file"),
    "in/up": Made(link="../../../../real/file"),
    "top": Made(link="in/to-dir"),
    "chain": Made(link="top/deep"),
}

ODD_NAMES = {
    "star*": Made(b"*"),
    "[x]": Made(b"x"),
    "x": Made(b"plain"),
    "a b c": Made(b"space"),
    "-dash": Made(b"dash"),
    "$dollar": Made(b"dollar"),
    "q'uote\"": Made(b"quote"),
    "ünïcode": Made(b"u"),
    "#hash": Made(b"hash"),
    ".hidden": Made(b"h"),
    "back\\slash": Made(b"b"),
}

WIDER_LANGUAGE = (
    of_base("expansion-forms", "ARG E=\nENV A=one.two.three P=/usr/lib/x.tar.gz\nENV B=${A:-n} C=${U:-n} D=${E:-n} F=${A:+y} G=${U:+y} H=${E:+y} I=${U-n} J=${E-n} K=${E+y} L=${A+y}x$U\n"),
    of_base("expansion-trims", "ENV A=one.two.three P=/usr/lib/x.tar.gz\nENV B=${A#*.} C=${A##*.} D=${A%.*} E=${A%%.*} F=${P##*/} G=${P%/*} H=${A#o?e} I=${A#nothing} J=${A%nothing}\n"),
    of_base("expansion-replaces", "ENV A=a.b.a.b P=/x/y\nENV B=${A/a/c} C=${A//a/c} D=${A/a./} E=${A//./-} F=${P//\\//_} G=${A/z/c} H=${A/?.?/q} I=${A//*/all}\n"),
    of_base("expansion-nested", "ENV A=1 B=two\nENV C=${U:-${A}} D=${U:-${V:-$B}} E=\"${U:-'q'}\" F=${U:-\"x y\"} G=${A:+\"${B}\"} H=${U:-a\\}b}\n"),
    of_base("expansion-quotes", "ENV A=v\nENV B='$A' C=\"$A\" D=\\$A E=\"\\$A\" F='\\$A' G=$A$A H=$A.x I=$A-x J=${A}x K=$A_x L=$1 M=$$ N=a$ O=\"a$\" Q=\"\\\\\" R=\"\\n\"\n"),
    of_base("expansion-where", "ENV A=/p U=u S=15 P=99\nLABEL l=$A \"$U\"=x\nUSER $U\nWORKDIR $A/w\nVOLUME $A/v\nEXPOSE $P/udp\nSTOPSIGNAL $S\nCMD $A\nENTRYPOINT [\"$A\"]\nSHELL [\"$A\"]\nHEALTHCHECK CMD $A\nONBUILD RUN $A\n"),
    of_base("env-legacy-quotes", "ENV A 'x y' \"z\"\nENV B   spaced   out\nENV C a=b\nLABEL one two three\n"),
    of_base("arg-order", "ARG A=1\nENV A=2\nARG A=3\nENV B=$A\nRUN echo $A >/a\n", "--build-arg", "A=4"),
    of_base("arg-default-other", "ARG A=x\nARG B=${A}y\nARG C=${B:-z}\nRUN echo $A $B $C >/a\n", "--build-arg", "B=given"),
    of_base("arg-empty-given", "ARG A=x\nARG B\nRUN echo \"[$A][$B]\" >/a\n", "--build-arg", "A=", "--build-arg", "B="),
    of_base("arg-unused", "RUN echo \"[$N]\" >/a\n", "--build-arg", "N=1"),
    of_base("arg-shadowing-path", "ARG PATH=/sbin\nRUN echo $PATH >/a\n"),
    Case("arg-global-scopes", f"ARG A=1\nARG B=$A-2\nFROM {BASE} AS one\nENV X=$A$B\nARG A\nARG B=own\nENV Y=$A$B\nFROM one\nENV Z=$A$B\n"),
    Case("arg-platforms-all", f"FROM --platform=$TARGETPLATFORM {BASE}\nARG TARGETOS\nARG TARGETARCH\nARG TARGETVARIANT\nARG BUILDOS BUILDARCH BUILDVARIANT BUILDPLATFORM\nENV A=$TARGETOS-$TARGETARCH-$TARGETVARIANT B=$BUILDOS-$BUILDARCH-$BUILDVARIANT-$BUILDPLATFORM\n"),
    Case("arg-platform-given", f"ARG TARGETARCH=own\nFROM {BASE}\nARG TARGETARCH\nENV A=$TARGETARCH\n"),
    Case("from-args", f"ARG IMAGE={BASE.partition(':')[0]}\nARG TAG=latest\nARG EMPTY\nFROM ${{IMAGE}}:${{TAG:-none}}${{EMPTY}} AS $TAG\nRUN true\n".replace(" AS $TAG", " AS last")),
    Case("directives", f"# escape=`\n#check=skip=all\n\n# escape=\\\nFROM {BASE}\nENV A=a`\n B=c\n"),
    Case("directive-late", f"# a comment\n# escape=`\nFROM {BASE}\nENV A=a\\\n B=c\n"),
    Case("directive-spaced", f"#   EsCaPe   =   `   \nFROM {BASE}\nENV A=a`\n B=c\n"),
    Case("escape-windows", f"# escape=`\nFROM {BASE}\nENV P=c:\\windows\\x Q=`\"x`\"\nRUN echo a`\n  b >/x\nWORKDIR /a\n"),
    Case("shebang", f"#!/usr/bin/env docker\nFROM {BASE}\nENV A=1\n"),
    Case("leading-blank", f"\n\n   \n# c\n\tFROM {BASE}\n  ENV A=1\n\n"),
    of_base("continuation-blank", "ENV A=1 \\\n\n  B=2 \\\n   \n  C=3\nLABEL a=b \\\n# comment\n   # indented\n c=d\n"),
    of_base("continuation-trailing-space", "ENV A=1 \\  \n B=2\nRUN echo a \\\t\n b >/x\n"),
    of_base("continuation-in-quotes", "ENV A=\"one \\\n   two\" B='three \\\nfour'\nRUN echo \"one \\\n   two\" >/x\n"),
    of_base("continuation-json", "CMD [\"a\", \\\n  \"b\", \\\n# c\n  \"c\"]\n"),
    of_base("json-escapes", 'CMD ["a\\tb", "\\u0041", "c\\\\d", "e/f", ""]\nENTRYPOINT [ "x" , "y" ] \n'),
    of_base("json-trailing", 'CMD ["a"] b\nENTRYPOINT ["a",]\nVOLUME ["/v", ]\n'),
    of_base("health-all", "HEALTHCHECK --interval=1h2m3s --timeout=1.5s --start-period=0s --start-interval=1ms --retries=0 CMD [\"a\", \"b c\"]\n"),
    of_base("health-lower", "healthcheck --retries=65 cmd a b\n"),
    of_base("health-continued", "HEALTHCHECK --interval=5s \\\n  --timeout=2s \\\n  CMD wget -q http://localhost/ || exit 1\n"),
    of_base("labels-many", "LABEL a=1 b=\"2 3\" c='4'\nLABEL a=5 org.opencontainers.image.title=\"x\\\ny\" empty=\"\" d=\n"),
    of_base("expose-many", "EXPOSE 8080/tcp 8080/udp 9000-9002/sctp\nARG PORT=81\nEXPOSE $PORT ${PORT}/udp 82-83\n"),
    of_base("user-forms", "USER 0\nUSER u:extra\nUSER 1000\nRUN id -u >/tmp/1; id -g >>/tmp/1\nUSER u:77\nRUN id -g >/tmp/2\nUSER root\n"),
    of_base("user-groups", "USER u\nRUN id -G >/tmp/g\nUSER 4242\nRUN id -G >/tmp/h; echo $HOME >>/tmp/h\n"),
    of_base("workdir-forms", "WORKDIR /a/./b/../c//d/\nWORKDIR ..\nWORKDIR \"with space\"\nWORKDIR ./x\nRUN pwd >/pwd\nWORKDIR /seeded/soft/..\n"),
    of_base("workdir-existing", "RUN mkdir -m 700 /keep && chown 5:6 /keep\nWORKDIR /keep\nWORKDIR /seeded/sub\n"),
    of_base("volume-then-run", "VOLUME /data\nRUN mkdir -p /data && echo kept >/data/f\nVOLUME [\"/www\"]\nRUN echo x >/www/new\nCOPY a /data/a\n"),
    of_base("shell-use", 'SHELL ["/bin/sh", "-ec"]\nRUN false; true\n'.replace("false; true", "true; echo $- >/x") + 'SHELL ["sh", "-c"]\nHEALTHCHECK CMD a\nENTRYPOINT b c\nRUN ["echo", "$A"]\n'),
    of_base("cmd-forms", "CMD\nENTRYPOINT\nCMD a   b\nENTRYPOINT  \"x y\" z\n"),
    of_base("cmd-inherited", "ENTRYPOINT [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"c\"]\n"),
    of_base("stopsignal-forms", "STOPSIGNAL SIGRTMIN+3\nSTOPSIGNAL sigterm\nSTOPSIGNAL KILL\n"),
    of_base("onbuild-forms", 'ONBUILD CMD ["a",  "b"]\nONBUILD ENV A=$B\n ONBUILD   LABEL x=y\nONBUILD WORKDIR /x\nONBUILD ADD . /src\nONBUILD RUN a \\\n  b\n'),
    Case("onbuild-stages", f"FROM {BASE} AS one\nONBUILD ARG A=1\nONBUILD RUN echo $A >/t\nONBUILD COPY a /c\nFROM one AS two\nFROM two\nENV B=2\n", FILES),
)  # fmt: skip

WIDER_STAGES = (
    Case("python-service", f"""ARG PYTHON={BASE}
FROM $PYTHON AS build
ENV PIP_NO_CACHE_DIR=1 \\
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY a b.txt ./
RUN --mount=type=cache,target=/root/.cache,id=wt-py-$A set -e; mkdir -p /venv/bin; cp a /venv/bin/run; chmod +x /venv/bin/run
COPY d/ ./d/
FROM $PYTHON
RUN mkdir -p /home/app && echo 'app:x:101:101::/home/app:/bin/sh' >>/etc/passwd && echo 'app:x:101:' >>/etc/group
COPY --from=build --chown=app:app /venv /venv
COPY --chown=app:app . /app
ENV PATH="/venv/bin:$PATH"
WORKDIR /app
USER app
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s CMD wget -qO- http://127.0.0.1:8000/ || exit 1
ENTRYPOINT ["run"]
CMD ["--host", "0.0.0.0"]
""", FILES),
    Case("node-app", f"""FROM {BASE} AS deps
WORKDIR /usr/src/app
COPY a* b.txt* ./
RUN mkdir -p node_modules/x/bin && ln -s ../x/bin node_modules/.bin && cp a node_modules/x/
FROM deps AS test
RUN false
FROM {BASE} AS release
ENV NODE_ENV production
WORKDIR /usr/src/app
RUN chown 1000:1000 .
USER 1000
COPY --chown=1000:1000 --from=deps /usr/src/app/node_modules ./node_modules
COPY --chown=1000:1000 . .
EXPOSE 3000
CMD [ "node", "server.js" ]
""", {**FILES, ".dockerignore": Made(b"node_modules\n*.log\n**/*.log\n.git\nDockerfile*\n")}),
    Case("go-static", f"""FROM --platform=$BUILDPLATFORM {BASE} AS build
ARG TARGETOS TARGETARCH
ARG VERSION=dev
WORKDIR /src
COPY --link a ./
RUN --mount=type=bind,target=. --mount=type=cache,target=/go,id=wt-go \\
    GOOS=$TARGETOS GOARCH=$TARGETARCH sh -c 'echo "$GOOS/$GOARCH" "$VERSION" $(ls | wc -l) >/out'
FROM scratch AS binary
COPY --from=build /out /app
FROM scratch
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=binary / /
USER 65534:65534
ENTRYPOINT ["/app"]
""", FILES, ("--build-arg", "VERSION=1.2")),
    Case("nginx-site", f"""FROM {BASE} AS site
WORKDIR /site
COPY d .
RUN touch index.txt && find . -type f | sort >index.txt
FROM {BASE}
RUN rm -rf /www/*
COPY --from=site /site/ /www/
COPY <<EOF /etc/nginx/conf.d/default.conf
server {{
  listen 80;
  location / {{ try_files \\$uri /index.html; }}
}}
EOF
EXPOSE 80
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
""", FILES),
    Case("copy-from-many", f"FROM {BASE} AS a\nRUN mkdir -p /x/y && echo 1 >/x/y/1 && ln -s y /x/l && ln -s /etc/passwd /x/p\nFROM {BASE} AS b\nCOPY --from=a /x /1\nCOPY --from=a /x/ /2/\nCOPY --from=a /x/l /3\nCOPY --from=a /x/l/ /4\nCOPY --from=a /x/p /5\nCOPY --from=a /x/* /6/\nCOPY --from=0 x/y/1 /7/\nCOPY --from=a ../x/y /8\n"),
    Case("copy-from-image-chown", f"FROM scratch\nCOPY --from={BASE} --chown=5:6 /www /s\nCOPY --from={BASE} --chmod=700 /www/index.html /f\nCOPY --from={BASE} /etc/passwd /etc/group /both/\n"),
    Case("scratch-add", "FROM scratch\nADD plain.tar /\nCOPY a /x/\nENV A=1\nCMD [\"/x\"]\n", {**ARCHIVES, **FILES}),
    Case("empty-final", f"FROM {BASE} AS one\nRUN echo 1 >/1\nFROM one\n"),
    Case("target-case", f"FROM {BASE} AS Build\nENV A=0\nFROM {BASE}\nENV A=1\n", arguments=("--target", "BUILD")),
    Case("stage-scratch-chain", "FROM scratch AS one\nCOPY a /1\nFROM one AS two\nCOPY a /2\nFROM two\nCOPY --from=one / /three\n", FILES),
)  # fmt: skip

WIDER_FILES = (
    of_base("copy-links", "COPY in /in\nCOPY in/to-file /1\nCOPY in/to-dir /2\nCOPY top /3\nCOPY chain /4\nCOPY top/ /5\nCOPY in/to-dir/deep/other /6\nCOPY in/to-* /7/\n", files=LINKS),
    of_base("copy-links-absolute", "COPY in/absolute /1\nCOPY in/up /2\n", files=LINKS),
    of_base("copy-dir-over-link", "RUN echo x >/f && mkdir /g && ln -s /g /l\nCOPY d /g\nCOPY d /l/in\nCOPY a /l\n"),
    of_base("copy-dot-forms", "WORKDIR /w\nCOPY ./a ./\nCOPY ./d/. ./e\nCOPY d/./e/../one.txt x\nCOPY . .\nCOPY ./ /y\nCOPY /a /z\n"),
    of_base("copy-odd-names", 'COPY ["a b c", "/1/"]\nCOPY [[]x] /2\nCOPY star\\* /3\nCOPY ./-dash /4\nCOPY \\$dollar /5\nCOPY ünïcode /6\nCOPY *h* /7/\nCOPY . /8\nCOPY ["x", "/with space/and $dollar"]\n', files=ODD_NAMES),
    of_base("copy-wild-dirs", "COPY d* /1/\nCOPY */one.txt /2/\nCOPY d/*/*.txt /3/\nCOPY ?/[^o]* /4/\nCOPY d/e* /5\nCOPY *.none a /6/\n"),
    of_base("copy-wild-one", "COPY b.* /one\nCOPY [a] /two/\nCOPY d/o*t /seeded/\n"),
    of_base("copy-to-root", "COPY d /\nCOPY a .\nCOPY a //x//y\nCOPY a /u/../v\n"),
    of_base("copy-chmod-forms", "COPY --chmod=0 a /0\nCOPY --chmod=7777 d /1\nCOPY --chmod=00644 a /2\nCOPY --chmod=555 d /new/dirs/\n"),
    of_base("copy-chown-forms", "ENV O=u G=extra\nCOPY --chown=$O:$G a /1\nCOPY --chown=0 a /2\nCOPY --chown=u:5 a /3\nCOPY --chown=5:extra a /4\nCOPY --chown=root:nogroup d /6\n"),
    of_base("copy-chown-keeps-parents", "COPY --chown=5:6 a /seeded/new/x\nCOPY --chown=5:6 d /seeded/sub\nCOPY --chown=5:6 --chmod=711 d/e /p/q\n"),
    of_base("copy-link-forms", "COPY --link a /x/a\nCOPY --link --chown=5:6 --chmod=700 d/one.txt /x2/y/z/\nWORKDIR /w\nCOPY --link a b.txt rel/\n"),
    of_base("copy-heredocs", "COPY <<one.txt <<two.txt a /h/\n1\none.txt\n2\ntwo.txt\nCOPY <<'EOF' /raw\n$A \\$B ${C:-d} \\n\nEOF\nCOPY <<-EOF /tabs\n\t\tin\n\t  mixed\n\tEOF\nCOPY --chmod=755 <<EOF /script\n#!/bin/sh\necho \"$HOME\" `date` \\\nx\nEOF\nCOPY <<EOF /empty\nEOF\n"),
    of_base("add-archives", "ADD plain.tar /0\nADD pack.tar.gz /1/\nADD pack.tar.bz2 /3\nADD only.gz /5\nADD misnamed.txt /6\nADD *.tar.* /7/\n", files={k: v for k, v in ARCHIVES.items() if "zst" not in k and "xz" not in k and "broken" not in k and "empty" not in k}),
    of_base("add-zstd", "ADD pack.tar.zst /4\n", files=ARCHIVES),
    of_base("add-archive-root", "ADD plain.tar /\nADD plain.tar .\nWORKDIR /w\nADD plain.tar .\nADD plain.tar x\n", files=ARCHIVES),
    of_base("add-archive-over", "RUN mkdir /pack && ln -s /etc /pack/soft && echo old >/loose && ln -s /www /l\nADD plain.tar /\nADD plain.tar /l\n", files=ARCHIVES),
    of_base("add-archive-owner", "ADD --chown=u:extra plain.tar /1\n", files=ARCHIVES),
    of_base("add-archive-mode", "ADD --chmod=700 plain.tar /2\n", files=ARCHIVES),
    of_base("add-empty-archive", "ADD empty.tar /1\n", files=ARCHIVES),
    of_base("add-link", "ADD --link plain.tar /1\nADD --link d /2\n", files={**ARCHIVES, **FILES}),
    of_base("run-many", "RUN echo 1 >/1 && echo 2 >/2\nRUN rm /1; mv /2 /3; mkdir -p /a/b/c; touch /a/b/c/d\nRUN rm -r /a/b && mkdir /a/b\nRUN mv /seeded /moved\nRUN rm /www/index.html && mkdir /www/index.html\nRUN rm -rf /home/u && ln -s /tmp /home/u\n"),
    of_base("run-metadata", "RUN touch /f && chmod 4755 /f\nRUN chown 1:2 /f\nRUN chmod 1777 /www\nRUN ln /f /hard && ln -s f /soft\nRUN rm /f\nRUN mkfifo /p && mknod /n c 1 3 && chmod 640 /n\n"),
    of_base("run-environment", "ENV A=1\nARG B=2\nRUN env | grep -vE '^(HOSTNAME|SHLVL|_)=' | sort >/env\nUSER u\nRUN echo $HOME >/tmp/h; umask >>/tmp/h\n"),
    of_base("run-isolation", "RUN ls /dev | grep -vE '^(core|mqueue)$' | sort >/dev.txt; grep -E 'Cap(Eff|Bnd|Prm)' /proc/self/status >/caps; grep Seccomp: /proc/self/status >>/caps; ls -ld /dev/shm | cut -c1-10 >>/caps\n"),
    of_base("run-stdin", "RUN test -t 0 && echo tty >/t || echo none >/t; cat | wc -c >>/t\nRUN [\"/bin/sh\", \"-c\", \"echo $0 $HOME >/e\"]\nRUN [\"/bin/busybox\", \"touch\", \"/with space\"]\n"),
    of_base("run-heredocs", "RUN <<A && echo done >/d\necho a >/a\nA\nRUN cat <<'X' <<Y >/two\none $A\nX\ntwo\nY\nRUN <<-EOF\n\techo indented >/i\n\tEOF\nRUN <<EOF\nset -e\nA=1\necho $A ${B:-2} >/v\nEOF\nRUN <<EOF /bin/sh -x\necho with-args >/w\nEOF\n"),
    of_base("run-shebang", "RUN <<EOF\n#!/bin/busybox ash\necho $0 >/zero\nEOF\n"),
    of_base("mount-bind-options", "RUN --mount=type=bind,source=d/one.txt,target=/f cat /f >/1\nRUN --mount=source=d,target=rel ls rel >/2; pwd >>/2\nRUN --mount=type=bind,target=/ro touch /ro/x 2>/dev/null; echo $? >/3\nRUN --mount=type=bind,src=d,dst=/rw,readwrite touch /rw/x && ls /rw | wc -l >/4\nRUN --mount=type=bind,src=d,destination=/rw,ro=false touch /rw/y && ls /rw | wc -l >/5\nWORKDIR /w\nRUN --mount=target=. ls | grep -v Dockerfile >/6\n"),
    of_base("mount-bind-links", "RUN --mount=source=to-d,target=/m ls /m >/1\nRUN --mount=source=to-d/one.txt,target=/m cat /m >/2\n"),
    Case("mount-bind-from-stage", f"FROM {BASE} AS s\nRUN mkdir /o && echo x >/o/f && ln -s /o /l\nFROM {BASE}\nRUN --mount=from=s,source=/o/f,target=/f cat /f >/1\nRUN --mount=from=s,source=/l,target=/m,rw ls /m >/2; echo y >/m/f\nRUN --mount=from=s,target=/all cat /all/o/f >/3\nRUN --mount=type=bind,from={BASE},source=/etc,target=/e ls /e >/4\n"),
    Case("mount-cache-options", f"FROM {BASE} AS s\nRUN mkdir /seed && echo s >/seed/f\nFROM {BASE}\nRUN --mount=type=cache,target=/c,from=s,source=/seed,id=wt-c1 cat /c/f >/1\nRUN --mount=type=cache,target=/c,id=wt-c2,sharing=private echo p >/c/p; ls /c >/2\nRUN --mount=type=cache,target=/c,id=wt-c3,sharing=locked,mode=700,uid=1000,gid=77 stat -c '%a %u %g' /c >/3\nRUN --mount=type=cache,target=/c,id=wt-c4,ro touch /c/x 2>/dev/null; echo $? >/4\nRUN --mount=type=cache,target=/v/deep/er,id=wt-c5 echo x >/v/deep/er/x\nUSER u\nRUN --mount=type=cache,target=/home/u/.cache,id=wt-c6,uid=1000 touch /home/u/.cache/x && echo ok >/tmp/6\n"),
    of_base("mount-tmpfs-options", "RUN --mount=type=tmpfs,target=/t stat -c %a /t >/1; df -m /t | wc -l >>/1\nRUN --mount=type=tmpfs,target=/www ls /www >/2; touch /www/x\nRUN --mount=type=tmpfs,target=/t,size=64k dd if=/dev/zero of=/t/f bs=128k count=1 2>/dev/null; stat -c %s /t/f >/3\n"),
    of_base("mount-secret-options", "RUN --mount=type=secret,id=s,dst=/a/b/c cat /a/b/c >/1\nRUN --mount=type=secret,target=/run/secrets/s cat /run/secrets/s >/2\nRUN --mount=type=secret,id=s,required cat /run/secrets/s >/3\nRUN --mount=type=secret,id=none ls /run/secrets 2>/dev/null | wc -l >/5\nUSER u\nRUN --mount=type=secret,id=s,uid=1000,gid=77,mode=0440 stat -c '%a %u %g' /run/secrets/s >/tmp/6; cat /run/secrets/s >>/tmp/6\n", secrets={"s": b"hidden\n"}),
    of_base("mount-relative", "WORKDIR /w\nRUN --mount=type=secret,id=s,target=y cat y >/1; ls >>/1\nRUN --mount=type=tmpfs,target=t --mount=type=ssh echo $SSH_AUTH_SOCK >/2; ls >>/2\nRUN --mount=target=c --mount=type=cache,id=wt-rel,target=d ls >/3\n", secrets={"s": b"hidden\n"}),
    of_base("mount-several", "RUN --mount=type=bind,target=/b --mount=type=tmpfs,target=/b2 --mount=type=cache,target=/b3,id=wt-m \\\n    --mount=type=secret,id=s cat /b/a /run/secrets/s >/1\n", secrets={"s": b"x"}),
    of_base("network-modes", "RUN --network=default ls /sys/class/net >/1\nRUN --network=none ls /sys/class/net >/2\n"),
    of_base("given-network", "RUN ls /sys/class/net >/1\n", "--network", "none"),
    of_base("given-hosts", "RUN grep -E 'one|two' /etc/hosts | sort | tr '\\t' ' ' >/1\n", "--add-host", "one:1.2.3.4", "--add-host", "two:::1"),
    of_base("given-shm", "RUN df -m /dev/shm | tail -1 | awk '{print $2}' >/1\n", "--shm-size", "32m"),
    of_base("given-ulimit", "RUN ulimit -n >/1; ulimit -Hn >>/1\n", "--ulimit", "nofile=500:600"),
    Case("ignored-more", f"FROM {BASE}\nCOPY . /all/\nCOPY d /d\n", {**FILES, ".dockerignore": Made(b"\xef\xbb\xbf# bom\n  \n**/e\n!d/e/three.txt\n a \n./b.txt\nx/../run.sh\n")}),
    Case("ignored-dockerfile", f"FROM {BASE}\nCOPY . /all/\n", {**FILES, ".dockerignore": Made(b"Dockerfile\n.dockerignore\narchive*\n")}),
)  # fmt: skip
