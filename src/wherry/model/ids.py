"""Identifiers: 64 hexadecimal digits, their prefixes, and names."""

from __future__ import annotations

import re
import secrets

ID = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
NAME_RULE = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

_QUALITIES = """amber able agile apt bold brisk bright calm clever clear crisp deft eager early easy fair fast fine firm
fleet fond free fresh gentle glad golden good grand hale handy happy hardy humble jolly just keen kind level light
lively loyal lucid lucky mellow merry mild neat nimble noble open patient plain plucky polite prime proud quick quiet
rapid ready ripe robust rosy round sage salty sharp silver simple sleek smart snug solid sound spry stable steady
sturdy sunny swift tidy trim true trusty upbeat vivid warm wary wise witty""".split()

_BOATS = """ark barge bark barque boat brig caique canoe caravel carrack catboat clipper cobble cog coracle corvette
curragh cutter dhow dinghy dory drifter dugout felucca ferry flyboat frigate galleon galley gig gondola hooker hoy hulk
jolly junk kayak keel ketch launch lighter longboat lugger nef pinnace pirogue pram proa prahu punt raft sampan schooner
scow scull shallop skiff sloop smack snow sprit steamer tartan tender trawler trow tug umiak wherry whaler xebec yacht
yawl""".split()


def new_id() -> str:
    """A fresh identifier that is not all digits in its first twelve, which some clients would take for a number."""
    while True:
        value = secrets.token_hex(32)
        if not value[:12].isdigit():
            return value


def random_name() -> str:
    """A name for a container that was given none, such as `steady_ketch`."""
    return f"{secrets.choice(_QUALITIES)}_{secrets.choice(_BOATS)}"
