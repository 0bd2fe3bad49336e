"""Every command, its arguments and its flags, as data: parsing, help and errors all derive from this table.

A command is (paths, usage, summary, (least, most) arguments, "module:function" under cli/commands, flags). The first
path is the one in its group, "ls|list|ps" are spellings of the same; `most` is -1 for no limit. A flag is (name,
shorthand, kind, usage), hidden where the usage is empty: the part of the kind before a slash is shown in help, the
whole names the parser of the value (see flags.py and values.py). {name} and {title} stand for this program's name.
"""

from __future__ import annotations

Flag = tuple[str, str, str, str]
Command = tuple[tuple[str, ...], str, str, tuple[int, int], str, tuple[Flag, ...]]

FORMAT = (
    "Format output using a custom template:\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)

FORMAT_TABLE = (
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)

CONTEXT_ENDPOINT = (
    "set the docker endpoint (default []):\n"
    "'from=NAME':            Copy named context's Docker endpoint configuration\n"
    "'host=ADDRESS':         Docker endpoint on which to connect\n"
    "'ca=FILE':              Trust certs signed only by this CA\n"
    "'cert=FILE,key=FILE':   TLS certificate and key\n"
    "'skip-tls-verify=true': Skip TLS certificate validation"
)

CREATE_FLAGS: tuple[Flag, ...] = (
    ("add-host", "", "list/host", "Add a custom host-to-IP mapping (host:ip)"),
    (
        "annotation",
        "",
        "map",
        "Add an annotation to the container (passed through to the OCI runtime) (default map[])",
    ),
    ("attach", "a", "list/stream", "Attach to STDIN, STDOUT or STDERR"),
    ("blkio-weight", "", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
    ("blkio-weight-device", "", "list/weight-device", "Block IO weight (relative device weight) (default [])"),
    ("cap-add", "", "list", "Add Linux capabilities"),
    ("cap-drop", "", "list", "Drop Linux capabilities"),
    ("cgroup-parent", "", "string", "Optional parent cgroup for the container"),
    (
        "cgroupns",
        "",
        "string",
        "Cgroup namespace to use (host|private)\n'host':    Run the container in the {title} host's "
        "cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':      "
        "  Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on "
        "the daemon (default)",
    ),
    ("cidfile", "", "string", "Write the container ID to the file"),
    ("cpu-count", "", "int", ""),
    ("cpu-percent", "", "int", ""),
    ("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-rt-period", "", "int", "Limit CPU real-time period in microseconds"),
    ("cpu-rt-runtime", "", "int", "Limit CPU real-time runtime in microseconds"),
    ("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    ("cpus", "", "decimal", "Number of CPUs"),
    ("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    ("device", "", "list", "Add a host device to the container"),
    ("device-cgroup-rule", "", "list/device-rule", "Add a rule to the cgroup allowed devices list"),
    ("device-read-bps", "", "list/rate", "Limit read rate (bytes per second) from a device (default [])"),
    ("device-read-iops", "", "list/iops", "Limit read rate (IO per second) from a device (default [])"),
    ("device-write-bps", "", "list/rate", "Limit write rate (bytes per second) to a device (default [])"),
    ("device-write-iops", "", "list/iops", "Limit write rate (IO per second) to a device (default [])"),
    ("disable-content-trust", "", "bool", "Skip image verification (default true)"),
    ("dns", "", "list/ip", "Set custom DNS servers"),
    ("dns-option", "", "list", "Set DNS options"),
    ("dns-search", "", "list/domain", "Set custom DNS search domains"),
    ("domainname", "", "string", "Container NIS domain name"),
    ("entrypoint", "", "string", "Overwrite the default ENTRYPOINT of the image"),
    ("env", "e", "list/env", "Set environment variables"),
    ("env-file", "", "list", "Read in a file of environment variables"),
    ("expose", "", "list", "Expose a port or a range of ports"),
    ("gpus", "", "gpu-request", "GPU devices to add to the container ('all' to pass all GPUs)"),
    ("group-add", "", "list", "Add additional groups to join"),
    ("health-cmd", "", "string", "Command to run to check health"),
    ("health-interval", "", "duration", "Time between running the check (ms|s|m|h) (default 0s)"),
    ("health-retries", "", "int", "Consecutive failures needed to report unhealthy"),
    (
        "health-start-interval",
        "",
        "duration",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    (
        "health-start-period",
        "",
        "duration",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    ("health-timeout", "", "duration", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)"),
    ("hostname", "h", "string", "Container host name"),
    ("init", "", "bool", "Run an init inside the container that forwards signals and reaps processes"),
    ("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    ("io-maxbandwidth", "", "bytes", ""),
    ("io-maxiops", "", "int", ""),
    ("ip", "", "string", "IPv4 address (e.g., 172.30.100.104)"),
    ("ip6", "", "string", "IPv6 address (e.g., 2001:db8::33)"),
    ("ipc", "", "string", "IPC mode to use"),
    ("isolation", "", "string", "Container isolation technology"),
    ("kernel-memory", "", "bytes", "Kernel memory limit"),
    ("label", "l", "list/label", "Set meta data on a container"),
    ("label-file", "", "list", "Read in a line delimited file of labels"),
    ("link", "", "list/link", "Add link to another container"),
    ("link-local-ip", "", "list", "Container IPv4/IPv6 link-local addresses"),
    ("log-driver", "", "string", "Logging driver for the container"),
    ("log-opt", "", "list", "Log driver options"),
    ("mac-address", "", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    ("memory", "m", "bytes", "Memory limit"),
    ("memory-reservation", "", "bytes", "Memory soft limit"),
    ("memory-swap", "", "bytes/swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    ("memory-swappiness", "", "int", "Tune container memory swappiness (0 to 100) (default -1)"),
    ("mount", "", "mount", "Attach a filesystem mount to the container"),
    ("name", "", "string", "Assign a name to the container"),
    ("network", "", "network", "Connect a container to a network"),
    ("network-alias", "", "list", "Add network-scoped alias for the container"),
    ("no-healthcheck", "", "bool", "Disable any container-specified HEALTHCHECK"),
    ("oom-kill-disable", "", "bool", "Disable OOM Killer"),
    ("oom-score-adj", "", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    ("pid", "", "string", "PID namespace to use"),
    ("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
    ("platform", "", "string", "Set platform if server is multi-platform capable"),
    ("privileged", "", "bool", "Give extended privileges to this container"),
    ("publish", "p", "list", "Publish a container's port(s) to the host"),
    ("publish-all", "P", "bool", "Publish all exposed ports to random ports"),
    ("quiet", "q", "bool", "Suppress the pull output"),
    ("read-only", "", "bool", "Mount the container's root filesystem as read only"),
    ("restart", "", "string", 'Restart policy to apply when a container exits (default "no")'),
    ("rm", "", "bool", "Automatically remove the container and its associated anonymous volumes when it exits"),
    ("runtime", "", "string", "Runtime to use for this container"),
    ("security-opt", "", "list", "Security Options"),
    ("shm-size", "", "bytes", "Size of /dev/shm"),
    ("stop-signal", "", "string", "Signal to stop the container"),
    ("stop-timeout", "", "int", "Timeout (in seconds) to stop a container"),
    ("storage-opt", "", "list", "Storage driver options for the container"),
    ("sysctl", "", "map/sysctl", "Sysctl options (default map[])"),
    ("tmpfs", "", "list", "Mount a tmpfs directory"),
    ("tty", "t", "bool", "Allocate a pseudo-TTY"),
    ("ulimit", "", "ulimit", "Ulimit options (default [])"),
    ("use-api-socket", "", "bool", "Bind mount Docker API socket and required auth"),
    ("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    ("userns", "", "string", "User namespace to use"),
    ("uts", "", "string", "UTS namespace to use"),
    ("volume", "v", "list", "Bind mount a volume"),
    ("volume-driver", "", "string", "Optional volume driver for the container"),
    ("volumes-from", "", "list", "Mount volumes from the specified container(s)"),
    ("workdir", "w", "string", "Working directory inside the container"),
)

COMMANDS: tuple[Command, ...] = (
    (
        (
            "container attach",
            "attach",
        ),
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        (1, 1),
        "attach",
        (
            ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
            ("no-stdin", "", "bool", "Do not attach STDIN"),
            ("sig-proxy", "", "bool", "Proxy all received signals to the process (default true)"),
        ),
    ),
    (
        (
            "container commit",
            "commit",
        ),
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        (1, 2),
        "changes:commit",
        (
            ("author", "a", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
            ("change", "c", "list", "Apply Dockerfile instruction to the created image"),
            ("message", "m", "string", "Commit message"),
            ("pause", "p", "bool", "Pause container during commit (default true)"),
        ),
    ),
    (
        (
            "container cp",
            "cp",
        ),
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t{name} {path} [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem\n"
        "Copy files/folders between a container and the local filesystem\n\n"
        "Use '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a "
        "container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
        (2, 2),
        "cp",
        (
            ("archive", "a", "bool", "Archive mode (copy all uid/gid information)"),
            ("follow-link", "L", "bool", "Always follow symbol link in SRC_PATH"),
            (
                "quiet",
                "q",
                "bool",
                "Suppress progress output during copy. Progress output is automatically suppressed if no terminal "
                "is attached",
            ),
        ),
    ),
    (
        (
            "container create",
            "create",
        ),
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        (1, -1),
        "run:create",
        (
            *CREATE_FLAGS,
            ("pull", "", "string", 'Pull image before creating ("always", "|missing", "never") (default "missing")'),
        ),
    ),
    (
        (
            "container diff",
            "diff",
        ),
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        (1, 1),
        "changes:diff",
        (),
    ),
    (
        (
            "container exec",
            "exec",
        ),
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        (2, -1),
        "exec",
        (
            ("detach", "d", "bool", "Detached mode: run command in the background"),
            ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
            ("env", "e", "list/env", "Set environment variables"),
            ("env-file", "", "list", "Read in a file of environment variables"),
            ("interactive", "i", "bool", "Keep STDIN open even if not attached"),
            ("privileged", "", "bool", "Give extended privileges to the command"),
            ("tty", "t", "bool", "Allocate a pseudo-TTY"),
            ("user", "u", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
            ("workdir", "w", "string", "Working directory inside the container"),
        ),
    ),
    (
        (
            "container export",
            "export",
        ),
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        (1, 1),
        "changes:export",
        (("output", "o", "string", "Write to a file, instead of STDOUT"),),
    ),
    (
        ("container inspect",),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        (1, -1),
        "inspect:containers",
        (
            ("format", "f", "string", FORMAT),
            ("size", "s", "bool", "Display total file sizes"),
        ),
    ),
    (
        (
            "container kill",
            "kill",
        ),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        (1, -1),
        "lifecycle:kill",
        (("signal", "s", "string", "Signal to send to the container"),),
    ),
    (
        (
            "container logs",
            "logs",
        ),
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        (1, 1),
        "logs",
        (
            ("details", "", "bool", "Show extra details provided to logs"),
            ("follow", "f", "bool", "Follow log output"),
            (
                "since",
                "",
                "string",
                'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
            ),
            ("tail", "n", "string", 'Number of lines to show from the end of the logs (default "all")'),
            ("timestamps", "t", "bool", "Show timestamps"),
            (
                "until",
                "",
                "string",
                'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
            ),
        ),
    ),
    (
        (
            "container ls|list|ps",
            "ps",
        ),
        "[OPTIONS]",
        "List containers",
        (0, 0),
        "ps",
        (
            ("all", "a", "bool", "Show all containers (default shows just running)"),
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            ("format", "", "string", FORMAT_TABLE),
            ("last", "n", "int", "Show n last created containers (includes all states) (default -1)"),
            ("latest", "l", "bool", "Show the latest created container (includes all states)"),
            ("no-trunc", "", "bool", "Don't truncate output"),
            ("quiet", "q", "bool", "Only display container IDs"),
            ("size", "s", "bool", "Display total file sizes"),
        ),
    ),
    (
        (
            "container pause",
            "pause",
        ),
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        (1, -1),
        "lifecycle:pause",
        (),
    ),
    (
        (
            "container port",
            "port",
        ),
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        (1, 2),
        "port",
        (),
    ),
    (
        ("container prune",),
        "[OPTIONS]",
        "Remove all stopped containers",
        (0, 0),
        "prune:containers",
        (
            ("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
            ("force", "f", "bool", "Do not prompt for confirmation"),
        ),
    ),
    (
        (
            "container rename",
            "rename",
        ),
        "CONTAINER NEW_NAME",
        "Rename a container",
        (2, 2),
        "lifecycle:rename",
        (),
    ),
    (
        (
            "container restart",
            "restart",
        ),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        (1, -1),
        "lifecycle:restart",
        (
            ("signal", "s", "string", "Signal to send to the container"),
            ("timeout", "t", "int", "Seconds to wait before killing the container"),
        ),
    ),
    (
        (
            "container rm|remove",
            "rm",
        ),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        (1, -1),
        "lifecycle:remove",
        (
            ("force", "f", "bool", "Force the removal of a running container (uses SIGKILL)"),
            ("link", "l", "list/link", "Remove the specified link"),
            ("volumes", "v", "bool", "Remove anonymous volumes associated with the container"),
        ),
    ),
    (
        (
            "container run",
            "run",
        ),
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        (1, -1),
        "run:run",
        (
            *CREATE_FLAGS,
            ("pull", "", "string", 'Pull image before running ("always", "missing", "never") (default "missing")'),
            ("detach", "d", "bool", "Run container in background and print container ID"),
            ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
            ("sig-proxy", "", "bool", "Proxy received signals to the process (default true)"),
        ),
    ),
    (
        (
            "container start",
            "start",
        ),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        (1, -1),
        "start",
        (
            ("attach", "a", "bool", "Attach STDOUT/STDERR and forward signals"),
            ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
            ("interactive", "i", "bool", "Attach container's STDIN"),
        ),
    ),
    (
        (
            "container stats",
            "stats",
        ),
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        (0, -1),
        "stats",
        (
            ("all", "a", "bool", "Show all containers (default shows just running)"),
            ("format", "", "string", FORMAT_TABLE),
            ("no-stream", "", "bool", "Disable streaming stats and only pull the first result"),
            ("no-trunc", "", "bool", "Do not truncate output"),
        ),
    ),
    (
        (
            "container stop",
            "stop",
        ),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        (1, -1),
        "lifecycle:stop",
        (
            ("signal", "s", "string", "Signal to send to the container"),
            ("timeout", "t", "int", "Seconds to wait before killing the container"),
        ),
    ),
    (
        (
            "container top",
            "top",
        ),
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        (1, -1),
        "top",
        (),
    ),
    (
        (
            "container unpause",
            "unpause",
        ),
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        (1, -1),
        "lifecycle:unpause",
        (),
    ),
    (
        (
            "container update",
            "update",
        ),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        (1, -1),
        "update",
        (
            (
                "blkio-weight",
                "",
                "uint16",
                "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
            ),
            ("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
            ("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
            ("cpu-rt-period", "", "int", "Limit the CPU real-time period in microseconds"),
            ("cpu-rt-runtime", "", "int", "Limit the CPU real-time runtime in microseconds"),
            ("cpu-shares", "c", "int", "CPU shares (relative weight)"),
            ("cpus", "", "decimal", "Number of CPUs"),
            ("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
            ("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
            ("memory", "m", "bytes", "Memory limit"),
            ("memory-reservation", "", "bytes", "Memory soft limit"),
            ("memory-swap", "", "bytes/swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
            ("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
            ("restart", "", "string", "Restart policy to apply when a container exits"),
        ),
    ),
    (
        (
            "container wait",
            "wait",
        ),
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        (1, -1),
        "lifecycle:wait",
        (),
    ),
    (
        ("completion bash",),
        "",
        "Generate the autocompletion script for bash: source <({name} completion bash)",
        (0, 0),
        "completion:bash",
        (),
    ),
    (
        ("completion fish",),
        "",
        "Generate the autocompletion script for fish: {name} completion fish | source",
        (0, 0),
        "completion:fish",
        (),
    ),
    (
        ("completion zsh",),
        "",
        "Generate the autocompletion script for zsh: source <({name} completion zsh)",
        (0, 0),
        "completion:zsh",
        (),
    ),
    (
        (
            "image history",
            "history",
        ),
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        (1, 1),
        "history",
        (
            ("format", "", "string", FORMAT_TABLE),
            ("human", "H", "bool", "Print sizes and dates in human readable format (default true)"),
            ("no-trunc", "", "bool", "Don't truncate output"),
            ("quiet", "q", "bool", "Only show image IDs"),
        ),
    ),
    (
        (
            "image import",
            "import",
        ),
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        (1, -1),
        "archives:import_image",
        (
            ("change", "c", "list", "Apply Dockerfile instruction to the created image"),
            ("message", "m", "string", "Set commit message for imported image"),
            ("platform", "", "string", "Set platform if server is multi-platform capable"),
        ),
    ),
    (
        ("image inspect",),
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        (1, -1),
        "inspect:images",
        (("format", "f", "string", FORMAT),),
    ),
    (
        (
            "image load",
            "load",
        ),
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        (0, 0),
        "archives:load",
        (
            ("input", "i", "string", "Read from tar archive file, instead of STDIN"),
            ("quiet", "q", "bool", "Suppress the load output"),
        ),
    ),
    (
        (
            "image ls|list",
            "images",
        ),
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        (0, 1),
        "images",
        (
            ("all", "a", "bool", "Show all images (default hides intermediate images)"),
            ("digests", "", "bool", "Show digests"),
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            ("format", "", "string", FORMAT_TABLE),
            ("no-trunc", "", "bool", "Don't truncate output"),
            ("tree", "", "bool", "List multi-platform images as a tree (EXPERIMENTAL)"),
            ("quiet", "q", "bool", "Only show image IDs"),
        ),
    ),
    (
        ("image prune",),
        "[OPTIONS]",
        "Remove unused images",
        (0, 0),
        "prune:images",
        (
            ("all", "a", "bool", "Remove all unused images, not just dangling ones"),
            ("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
            ("force", "f", "bool", "Do not prompt for confirmation"),
        ),
    ),
    (
        (
            "image rm|remove",
            "rmi",
        ),
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        (1, -1),
        "images:remove",
        (
            ("force", "f", "bool", "Force removal of the image"),
            ("no-prune", "", "bool", "Do not delete untagged parents"),
        ),
    ),
    (
        (
            "image save",
            "save",
        ),
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        (1, -1),
        "archives:save",
        (("output", "o", "string", "Write to a file, instead of STDOUT"),),
    ),
    (
        (
            "image tag",
            "tag",
        ),
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        (2, 2),
        "images:tag",
        (),
    ),
    (
        ("inspect",),
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on {title} objects",
        (1, -1),
        "inspect:anything",
        (
            ("format", "f", "string", FORMAT),
            ("size", "s", "bool", "Display total file sizes if the type is container"),
            ("type", "", "string", "Only inspect objects of the given type"),
        ),
    ),
    (
        ("network connect",),
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        (2, 2),
        "networks:connect",
        (
            ("alias", "", "strings", "Add network-scoped alias for the container"),
            ("driver-opt", "", "strings", "driver options for the network"),
            (
                "gw-priority",
                "",
                "int",
                "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
            ),
            ("ip", "", "string", 'IPv4 address (e.g., "172.30.100.104")'),
            ("ip6", "", "string", 'IPv6 address (e.g., "2001:db8::33")'),
            ("link", "", "list/link", "Add link to another container"),
            ("link-local-ip", "", "strings", "Add a link-local address for the container"),
        ),
    ),
    (
        ("network create",),
        "[OPTIONS] NETWORK",
        "Create a network",
        (1, 1),
        "networks:create",
        (
            ("attachable", "", "bool", "Enable manual container attachment"),
            ("aux-address", "", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])"),
            ("config-from", "", "string", "The network from which to copy the configuration"),
            ("config-only", "", "bool", "Create a configuration only network"),
            ("driver", "d", "string", 'Driver to manage the Network (default "bridge")'),
            ("gateway", "", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
            ("ingress", "", "bool", "Create swarm routing-mesh network"),
            ("internal", "", "bool", "Restrict external access to the network"),
            ("ip-range", "", "strings", "Allocate container ip from a sub-range"),
            ("ipam-driver", "", "string", 'IP Address Management Driver (default "default")'),
            ("ipam-opt", "", "map", "Set IPAM driver specific options (default map[])"),
            ("ipv4", "", "bool", "Enable or disable IPv4 address assignment (default true)"),
            ("ipv6", "", "bool", "Enable or disable IPv6 address assignment"),
            ("label", "", "list/label", "Set metadata on a network"),
            ("opt", "o", "map", "Set driver specific options (default map[])"),
            ("scope", "", "string", "Control the network's scope"),
            ("subnet", "", "strings", "Subnet in CIDR format that represents a network segment"),
        ),
    ),
    (
        ("network disconnect",),
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        (2, 2),
        "networks:disconnect",
        (("force", "f", "bool", "Force the container to disconnect from a network"),),
    ),
    (
        ("network inspect",),
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        (1, -1),
        "inspect:networks",
        (
            ("format", "f", "string", FORMAT),
            ("verbose", "v", "bool", "Verbose output for diagnostics"),
        ),
    ),
    (
        ("network ls|list",),
        "[OPTIONS]",
        "List networks",
        (0, 0),
        "networks",
        (
            ("filter", "f", "filter", 'Provide filter values (e.g. "driver=bridge")'),
            ("format", "", "string", FORMAT_TABLE),
            ("no-trunc", "", "bool", "Do not truncate the output"),
            ("quiet", "q", "bool", "Only display network IDs"),
        ),
    ),
    (
        ("network prune",),
        "[OPTIONS]",
        "Remove all unused networks",
        (0, 0),
        "prune:networks",
        (
            ("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
            ("force", "f", "bool", "Do not prompt for confirmation"),
        ),
    ),
    (
        ("network rm|remove",),
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        (1, -1),
        "networks:remove",
        (("force", "f", "bool", "Do not error if the network does not exist"),),
    ),
    (
        ("system dial-stdio",),
        "",
        "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
        (0, 0),
        "dialstdio",
        (),
    ),
    (
        ("context create",),
        "[OPTIONS] CONTEXT",
        "Create a context",
        (1, 1),
        "contexts:create",
        (
            ("description", "", "string", "Description of the context"),
            ("docker", "", "stringToString", CONTEXT_ENDPOINT),
            ("from", "", "string", "create context from a named context"),
        ),
    ),
    (
        ("context export",),
        "[OPTIONS] CONTEXT [FILE|-]",
        "Export a context to a tar archive FILE or a tar stream on STDOUT.",
        (1, 2),
        "contexts:export",
        (),
    ),
    (
        ("context import",),
        "CONTEXT FILE|-",
        "Import a context from a tar or zip file",
        (2, 2),
        "contexts:import_",
        (),
    ),
    (
        ("context inspect",),
        "[OPTIONS] [CONTEXT] [CONTEXT...]",
        "Display detailed information on one or more contexts",
        (0, -1),
        "contexts:inspect",
        (("format", "f", "string", FORMAT),),
    ),
    (
        ("context ls|list",),
        "[OPTIONS]",
        "List contexts",
        (0, 0),
        "contexts:ls",
        (
            ("format", "", "string", FORMAT_TABLE),
            ("quiet", "q", "bool", "Only show context names"),
        ),
    ),
    (
        ("context rm|remove",),
        "CONTEXT [CONTEXT...]",
        "Remove one or more contexts",
        (1, -1),
        "contexts:rm",
        (("force", "f", "bool", "Force the removal of a context in use"),),
    ),
    (
        ("context show",),
        "",
        "Print the name of the current context",
        (0, 0),
        "contexts:show",
        (),
    ),
    (
        ("context update",),
        "[OPTIONS] CONTEXT",
        "Update a context",
        (1, 1),
        "contexts:update",
        (
            ("description", "", "string", "Description of the context"),
            ("docker", "", "stringToString", CONTEXT_ENDPOINT),
        ),
    ),
    (
        ("context use",),
        "CONTEXT",
        "Set the current {name} context",
        (1, 1),
        "contexts:use",
        (),
    ),
    (
        ("system df",),
        "[OPTIONS]",
        "Show {name} disk usage",
        (0, 0),
        "df",
        (
            ("format", "", "string", FORMAT_TABLE),
            ("verbose", "v", "bool", "Show detailed information on space usage"),
        ),
    ),
    (
        (
            "system events",
            "events",
        ),
        "[OPTIONS]",
        "Get real time events from the server",
        (0, 0),
        "events",
        (
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            ("format", "", "string", FORMAT),
            ("since", "", "string", "Show all events created since timestamp"),
            ("until", "", "string", "Stream events until this timestamp"),
        ),
    ),
    (
        (
            "system info",
            "info",
        ),
        "[OPTIONS]",
        "Display system-wide information",
        (0, 0),
        "info",
        (("format", "f", "string", FORMAT),),
    ),
    (
        ("system prune",),
        "[OPTIONS]",
        "Remove unused data",
        (0, 0),
        "prune:system",
        (
            ("all", "a", "bool", "Remove all unused images not just dangling ones"),
            ("filter", "", "filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
            ("force", "f", "bool", "Do not prompt for confirmation"),
            ("volumes", "", "bool", "Prune anonymous volumes"),
        ),
    ),
    (
        ("version",),
        "[OPTIONS]",
        "Show the {title} version information",
        (0, 0),
        "version",
        (("format", "f", "string", FORMAT),),
    ),
    (
        ("volume create",),
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        (0, 1),
        "volumes:create",
        (
            ("name", "", "string", ""),
            ("driver", "d", "string", 'Specify volume driver name (default "local")'),
            ("label", "", "list/label", "Set metadata for a volume"),
            ("opt", "o", "map", "Set driver specific options (default map[])"),
        ),
    ),
    (
        ("volume inspect",),
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        (1, -1),
        "inspect:volumes",
        (("format", "f", "string", FORMAT),),
    ),
    (
        ("volume ls|list",),
        "[OPTIONS]",
        "List volumes",
        (0, 0),
        "volumes",
        (
            ("cluster", "", "bool", "Display only cluster volumes, and use cluster volume list formatting"),
            ("filter", "f", "filter", 'Provide filter values (e.g. "dangling=true")'),
            ("format", "", "string", FORMAT_TABLE),
            ("quiet", "q", "bool", "Only display volume names"),
        ),
    ),
    (
        ("volume prune",),
        "[OPTIONS]",
        "Remove unused local volumes",
        (0, 0),
        "prune:volumes",
        (
            ("all", "a", "bool", "Remove all unused volumes, not just anonymous ones"),
            ("filter", "", "filter", 'Provide filter values (e.g. "label=<label>")'),
            ("force", "f", "bool", "Do not prompt for confirmation"),
        ),
    ),
    (
        ("volume rm|remove",),
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes\n"
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        (1, -1),
        "volumes:remove",
        (("force", "f", "bool", "Force the removal of one or more volumes"),),
    ),
    (
        ("login",),
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
        (0, 1),
        "login",
        (
            ("password", "p", "string", "Password or Personal Access Token (PAT)"),
            ("password-stdin", "", "bool", "Take the Password or Personal Access Token (PAT) from stdin"),
            ("username", "u", "string", "Username"),
        ),
    ),
    (
        ("logout",),
        "[SERVER]",
        "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
        (0, 1),
        "login:logout",
        (),
    ),
    (
        ("manifest inspect",),
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Display an image manifest, or manifest list",
        (1, 2),
        "manifest:inspect",
        (
            ("insecure", "", "bool", "Allow communication with an insecure registry"),
            ("verbose", "v", "bool", "Output additional info including layers and platform"),
        ),
    ),
    (
        (
            "image pull",
            "pull",
        ),
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        (1, 1),
        "transfers:pull",
        (
            ("all-tags", "a", "bool", "Download all tagged images in the repository"),
            ("disable-content-trust", "", "bool", "Skip image verification (default true)"),
            ("platform", "", "string", "Set platform if server is multi-platform capable"),
            ("quiet", "q", "bool", "Suppress verbose output"),
        ),
    ),
    (
        (
            "image push",
            "push",
        ),
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        (1, 1),
        "transfers:push",
        (
            ("all-tags", "a", "bool", "Push all tags of an image to the repository"),
            ("disable-content-trust", "", "bool", "Skip image signing (default true)"),
            (
                "platform",
                "",
                "string",
                "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be "
                "pushed, meaning that other manifests, including attestations won't be preserved.\n"
                "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
            ("quiet", "q", "bool", "Suppress verbose output"),
        ),
    ),
    (
        ("search",),
        "[OPTIONS] TERM",
        "Search Docker Hub for images",
        (1, 1),
        "search",
        (
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            ("format", "", "string", "Pretty-print search using a Go template"),
            ("limit", "", "int", "Max number of search results"),
            ("no-trunc", "", "bool", "Don't truncate output"),
        ),
    ),
)

GROUPS = {
    "completion": "Generate the autocompletion script for a shell",
    "container": "Manage containers",
    "context": "Manage contexts",
    "image": "Manage images",
    "manifest": "Manage image manifests and manifest lists",
    "network": "Manage networks",
    "system": "Manage {title}",
    "volume": "Manage volumes",
}

# In the order in which help lists them first.
COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info")

GLOBAL_FLAGS: tuple[Flag, ...] = (
    ("config", "", "string", 'Location of client config files (default "~/.docker")'),
    (
        "context",
        "c",
        "string",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set "
        'with "{name} context use")',
    ),
    ("debug", "D", "bool", "Enable debug mode"),
    ("host", "H", "list", "Daemon socket to connect to"),
    (
        "log-level",
        "l",
        "string",
        'Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")',
    ),
    ("tls", "", "bool", "Use TLS; implied by --tlsverify"),
    ("tlscacert", "", "string", 'Trust certs signed only by this CA (default "~/.docker/ca.pem")'),
    ("tlscert", "", "string", 'Path to TLS certificate file (default "~/.docker/cert.pem")'),
    ("tlskey", "", "string", 'Path to TLS key file (default "~/.docker/key.pem")'),
    ("tlsverify", "", "bool", "Use TLS and verify the remote"),
    ("version", "v", "bool", "Print version information and quit"),
)

# Commands that docker has and this program will have.
LATER = frozenset(
    (
        *"build builder buildx checkpoint compose config".split(),
        *"node plugin secret service stack swarm trust".split(),
        "image build",
        *(f"manifest {name}" for name in "annotate create push rm".split()),
        "volume update",
    )
)
