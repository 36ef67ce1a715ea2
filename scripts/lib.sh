# Shared by the scripts of this folder: the virtual environment and the system's packages.  Source it, do not run it.
#
#   need_packages TOOL:PACKAGE...   installs what is missing with apt-get, as root; otherwise says what to install
#   ensure_venv [EXTRA]             makes $VENV with p2pxfer, and with what one of its extras asks for
#   exec_python ARGUMENT...         becomes the environment's Python, with its tools in PATH and the checkout importable
#
# $P2PXFER_VENV overrides where the environment lives, $PYTHON which interpreter it is made from.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=${P2PXFER_VENV:-$ROOT/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac

# Seconds after which an installation counts as hung.
INSTALL_DEADLINE=600

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 2
}

# quietly WHAT COMMAND...: one line, and the command's output only if it fails.
quietly() {
    local what=$1 log status=0
    shift
    say "$what"
    log=$(mktemp)
    timeout --kill-after=10 "$INSTALL_DEADLINE" "$@" </dev/null >"$log" 2>&1 || status=$?
    if ((status)); then
        cat "$log" >&2
        rm -f "$log"
        return "$status"
    fi
    rm -f "$log"
}

has_tool() {
    command -v "$1" >/dev/null 2>&1 || [[ -x /usr/sbin/$1 || -x /sbin/$1 ]]
}

# need_packages TOOL:PACKAGE...: returns 1 (after saying why) if a tool is missing and stays so.
need_packages() {
    local pair packages=()
    for pair in "$@"; do
        has_tool "${pair%%:*}" || packages+=("${pair#*:}")
    done
    ((${#packages[@]})) || return 0
    if ((EUID != 0)) || ! has_tool apt-get; then
        say "missing on this system: ${packages[*]}"
        return 1
    fi
    apt_install "${packages[@]}"
}

apt_install() {
    local options=(-qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120)
    quietly "Reading the package lists" apt-get "${options[@]}" update || return 1
    quietly "Installing $*" env DEBIAN_FRONTEND=noninteractive \
        apt-get "${options[@]}" install -y --no-install-recommends "$@"
}

# The first interpreter that is new enough; versions by name, because `python3` may be an old one.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
        [[ -z ${PYTHON:-} ]] || break
    done
    return 1
}

# What the environment was made from: it is made again when this changes.  Python files are not in it, because the
# checkout itself is on the environment's path.
venv_facts() {
    local python=$1 extra=$2
    printf '%s\n' "1 $ROOT $VENV $extra"
    "$python" -c 'import sys; print(sys.version)'
    sha256sum "$ROOT/setup.cfg" "$ROOT/pyproject.toml"
}

# Whether the environment holds p2pxfer as it is asked for; one with an extra serves those who need none.
venv_is_ready() {
    local python=$1 extra=$2 each
    "$VENV/bin/python" -I -c 'import p2pxfer' 2>/dev/null || return 1
    for each in "$extra" test; do
        [[ $(cat "$VENV/.p2pxfer-stamp-$each" 2>/dev/null) == "$(venv_facts "$python" "$each")" ]] && return 0
    done
    return 1
}

ensure_venv() {
    local extra=${1:-} python
    python=$(find_python) || die "p2pxfer needs Python 3.11 or newer; name one with PYTHON=/path/to/python3"
    venv_is_ready "$python" "$extra" && return 0
    mkdir -p "$VENV" 2>/dev/null || die "cannot write to $VENV; name another place with P2PXFER_VENV"
    # Two scripts started at once must not install into each other's half-made environment.
    exec 9>"$VENV/.p2pxfer-lock" || die "cannot write to $VENV; name another place with P2PXFER_VENV"
    if has_tool flock; then
        flock --wait "$INSTALL_DEADLINE" 9 || die "another installation into $VENV does not end"
    fi
    if ! venv_is_ready "$python" "$extra"; then
        make_venv "$python"
        fill_venv "$extra"
        venv_facts "$python" "$extra" >"$VENV/.p2pxfer-stamp-$extra"
    fi
    exec 9>&-
}

make_venv() {
    local python=$1
    if "$VENV/bin/python" -m pip --version >/dev/null 2>&1 \
        && [[ $("$VENV/bin/python" -c 'import sys; print(sys.version, sys.prefix)') \
            == "$("$python" -c 'import sys; print(sys.version)') $VENV" ]]; then
        return 0
    fi
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        local version
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        { ((EUID == 0)) && has_tool apt-get && apt_install "python$version-venv"; } \
            || die "$python cannot make virtual environments: install python$version-venv"
    fi
    quietly "Making a virtual environment in $VENV" "$python" -m venv --clear "$VENV" \
        || die "no virtual environment"
}

# The editable mode is `compat` because the default one hides the twistd plugin from other directories.
fill_venv() {
    local extra=$1
    quietly "Installing p2pxfer${extra:+ and its $extra tools} with pip" \
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --config-settings editable_mode=compat --editable "$ROOT${extra:+[$extra]}" \
        || die "the installation failed"
    # Written now, since a later user of the environment may not be allowed to.  A damaged cache is made anew.
    rm -f "$ROOT/twisted/plugins/dropin.cache"
    (cd / && "$VENV/bin/python" -I -c '
from twisted.plugin import IPlugin, getPlugins
import sys, twisted.plugins
list(getPlugins(IPlugin))
sys.exit(not any(path.startswith(sys.argv[1]) for path in twisted.plugins.__path__))' "$ROOT") \
        || die "twistd does not see the plugins of $ROOT"
}

exec_python() {
    export PATH=$VENV/bin:$PATH:/usr/sbin:/sbin PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
    exec "$VENV/bin/python" "$@"
}
