# shellcheck shell=sh
# Every scripts/NAME sources this file after setting `here`, and `extra=dev` if it needs the tools of pyproject.toml's
# [dev]. It sets $root, $venv, $python and DLINTRO_OUTPUTS. If .venv isn't what pyproject.toml, constraints.txt and
# DLINTRO_TORCH ask for, it is made or repaired. Otherwise a start costs one cksum: no Python, no pip, no file written.
set -eu

root=${here%/*}
venv=$root/.venv
python=$venv/bin/python
stamp=$venv/dlintro-stamp # "core|dev BUILD", then the checksums (or the step at which a start stopped)
case ${extra-} in dev) ;; *) extra=core ;; esac
pythons='3.14 3.13 3.12 3.11' # the newest first, as in pyproject.toml
newest=${pythons%% *}
range="${pythons##* } to $newest"

say() { printf 'dlintro: %s\n' "$1" >&2; }
stop() { say "$2"; exit "$1"; }

read_stamp() {
    have_extra='' have_torch='' have_files='' have_more=''
    { read -r have_extra have_torch && IFS= read -r have_files && IFS= read -r have_more; } 2>/dev/null <"$stamp" || :
    have_files="$have_files
$have_more"
}

write_stamp() { # BUILD CHECKSUMS
    printf '%s %s\n%s\n' "$extra" "$1" "$2" >"$stamp.new" && mv -f "$stamp.new" "$stamp"
}

up_to_date() {
    read_stamp
    [ "$have_files" = "$files" ] && [ -x "$python" ] || return 1
    [ "$extra" = "$have_extra" ] || [ "$have_extra" = dev ] || return 1
    [ -z "${DLINTRO_TORCH:-}" ] || [ "$DLINTRO_TORCH" = "$have_torch" ]
}

# Prints "3.12.1 ok", "3.10.2 version" or "3.12.1 no-venv", or nothing if $1 doesn't run (pyenv's shims may not).
probe() {
    "$1" -I -c '
import sys
word = "ok"
if "%d.%d" % sys.version_info[:2] not in sys.argv[1].split():
    word = "version"
else:
    try:
        import ensurepip, venv
    except ImportError:
        word = "no-venv"
print("%d.%d.%d %s" % (sys.version_info[:3] + (word,)))' "$pythons" 2>/dev/null || :
}

too_new() { # VERSION
    minor=${1#*.}
    [ "${minor%%.*}" -gt "${newest#*.}" ]
}

find_python() {
    seen='' bare='' packages='python3 python3-venv'
    for suffix in $pythons 3 ''; do
        name=python$suffix
        found=$(command -v "$name") || continue
        answer=$(probe "$found")
        case $answer in
            *' ok') say "Python ${answer% ok} ($found)"; return ;;
            *' version')
                seen="$seen, $name is ${answer% version}"
                if too_new "$answer"; then
                    seen="$seen, which is too new: PyTorch $(sed -n 's/^torch==\([0-9]*\.[0-9]*\).*/\1/p' "$root/constraints.txt") has no build for it"
                    packages="python$newest python$newest-venv" # because the system's python3 is too new
                fi ;;
            *' no-venv') [ -n "$bare" ] || bare=$found bare_version=${answer% no-venv} ;;
        esac
    done
    [ -z "$bare" ] ||
        stop 1 "$bare is Python $bare_version without its venv module: install it (Debian, Ubuntu: apt install python3-venv or python${bare_version%.*}-venv) and start again"
    stop 1 "found no Python $range${seen:+ (${seen#, })}: install one (Debian, Ubuntu: apt install $packages; macOS: brew install python@$newest; anywhere: uv python install $newest, or www.python.org/downloads) and start again"
}

# Accepts an environment that somebody else made, if this user can't write here.
without_writing() {
    [ ! -L "$python" ] || [ -x "$python" ] ||
        stop 1 "$python is a link to $(readlink "$python"), which you can't run: the owner of .venv can make it again with a Python that everybody can run (rm -r '$venv'; PATH=/usr/bin:\$PATH scripts/train)"
    [ "$extra" = core ] || set -- "$@" pytest mypy ruff
    "$python" -I -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
        dlintro torch lightning "$@" 2>/dev/null ||
        stop 1 "you can't write to $root, and it has no finished .venv: let its owner run scripts/${0##*/} once, or install into an environment elsewhere (python3 -m venv DIR; DIR/bin/pip install '$root') and use DIR/bin/dlintro-train"
}

# The lock is flock's on descriptor 9. It ends with this shell and its pip, however they end.
lock() {
    exec 9>>"$venv/.lock"
    "$1" -I -c '
import fcntl, sys
try:
    fcntl.flock(0, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("dlintro: another start is installing here; waiting for it", file=sys.stderr)
    fcntl.flock(0, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks' <&9
}

make_venv() {
    say "making $venv"
    write_stamp "${have_torch:-pypi}" making
    rm -rf "$venv/bin" "$venv/include" "$venv/lib" "$venv/lib64" "$venv/share" "$venv/pyvenv.cfg"
    "$found" -I -m venv "$venv" >&2 || stop 1 "$found could not make $venv (its message is above)"
}

# Sets $index and $local_version, which pip needs for the requested build. Both are empty for PyPI's own build.
choose_build() {
    index='' local_version=''
    case $torch in
        cpu | xpu) build=$torch ;;
        cuda) build=cu130 ;; # PyPI's Linux wheel of torch 2.14 also has CUDA 13.0
        rocm) build=rocm7.14 ;;
        *) return 0 ;;
    esac
    if [ "$(uname -s)" = Darwin ]; then
        [ "$torch" = cpu ] && return 0 # macOS has only PyPI's build, which computes on cpu and mps
        stop 2 "DLINTRO_TORCH=$torch: PyTorch has no such build for macOS; unset it (PyPI's build computes on cpu and mps)"
    fi
    case $have_version in "$version+$build"*) return 0 ;; esac
    index=https://download.pytorch.org/whl/$build
    say "looking for PyTorch's $torch build at $index"
    local_version=$("$python" -I -m pip index versions torch --index-url "$index" --timeout 10 --retries 0 2>/dev/null |
        sed -n "s/.*[ ,]$version\(+$build[^, )]*\).*/\1/p" | sed 1q)
    way=${DLINTRO_TORCH:+unset DLINTRO_TORCH}
    [ -n "$local_version" ] ||
        stop 1 "DLINTRO_TORCH=$torch: $index can't be reached, or has no torch $version for this machine: check the connection (proxy: HTTPS_PROXY), or use PyPI's build (${way:-rm -r '$venv'})"
}

say_size() {
    case $(uname -s)-$torch in
        Darwin-* | *-cpu) say "installing PyTorch and other packages: about 0.3 GB to download, 1.5 GB on disk" ;;
        *-pypi)
            say "installing PyTorch with its CUDA libraries and other packages: about 3 GB to download, 6 GB on disk"
            say "without an NVIDIA GPU, a tenth of that is enough: press Ctrl-C and type DLINTRO_TORCH=cpu scripts/${0##*/}" ;;
        *) say "installing PyTorch's $torch build and other packages: several GB to download, twice that on disk" ;;
    esac
}

pip_install() {
    version=$(sed -n 's/^torch==//p' "$root/constraints.txt")
    have_version=$("$python" -I -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null) || have_version=''
    choose_build
    write_stamp "$torch" installing # remembers the build from here on
    set -- -c "$root/constraints.txt"
    if [ -z "$index" ] && [ "${have_version%+*}" = "$version" ]; then
        say "PyTorch $have_version is in .venv; installing the other packages that this command needs"
        set -- -q "$@"
    else
        say_size
        "$python" -I -m pip install -q -U "$@" pip >&2 || : # a new pip resumes broken downloads and shows the unpacking; the old one works too
    fi
    if [ -n "$index" ]; then
        vision=$(sed -n 's/^torchvision==//p' "$root/constraints.txt")
        set -- "$@" --extra-index-url "$index" "torch==$version$local_version" "torchvision==$vision$local_version"
    fi
    target=$root
    [ "$extra" = core ] || target="$root[$extra]"
    "$python" -I -m pip install "$@" -e "$target" >&2 ||
        stop 1 "pip could not install the packages (its message is above): check the connection (proxy: HTTPS_PROXY, mirror: PIP_INDEX_URL) and the disk space, and start again; the installation resumes"
}

prepare() {
    [ -d "$venv" ] || [ -w "$root" ] || without_writing
    found=''
    answer=$([ ! -x "$python" ] || probe "$python")
    case $answer in
        *' ok' | *' no-venv') found=$python ;;
        *' version') stop 1 "$venv has Python ${answer% version}, not $range: remove it (rm -r '$venv') and start again" ;;
    esac
    [ -n "$found" ] || find_python
    { mkdir -p "$venv" && true >>"$venv/.lock"; } 2>/dev/null || { without_writing; return 0; }
    lock "$found"
    up_to_date && return 0 # another start has finished it

    torch=${DLINTRO_TORCH:-${have_torch:-pypi}} # the chosen build stays until the user asks for another one
    [ "$have_extra" != dev ] || extra=dev
    began=$(date +%s)
    trap 'say "stopped; the next start resumes here"; exit 130' INT
    trap 'exit 143' TERM
    case $have_files in
        making*) rm -f "$python" ;;
        installing*) # a half-installed package has no RECORD, but pip would think it complete
            for package in "$venv"/lib/python3*/site-packages/*.dist-info; do
                [ ! -d "$package" ] || [ -f "$package/RECORD" ] || rm -rf "$package"
            done ;;
    esac
    if ! "$python" -I -m pip --version >/dev/null 2>&1 && ! "$python" -I -m ensurepip >/dev/null 2>&1; then
        [ "$found" != "$python" ] || find_python
        make_venv
    fi
    pip_install
    write_stamp "$torch" "$files"
    trap - INT TERM
    say "ready after $(($(date +%s) - began)) s; the next start skips this"
}

case ${DLINTRO_TORCH:-} in
    '' | cpu | cuda | rocm | xpu) ;;
    *) stop 2 "DLINTRO_TORCH=$DLINTRO_TORCH: it must be cpu, cuda, rocm or xpu (unset: PyPI's build)" ;;
esac
files=$(cksum "$root/pyproject.toml" "$root/constraints.txt") # two lines with the path, so that a moved checkout installs again
if ! up_to_date; then
    prepare
    exec 9>&-
fi
if [ -z "${DLINTRO_OUTPUTS:-}" ]; then
    if mkdir -p "$root/outputs" 2>/dev/null && [ -w "$root/outputs" ]; then
        DLINTRO_OUTPUTS=$root/outputs
        export DLINTRO_OUTPUTS
    elif [ -w "${HOME:-}" ]; then # in a shared checkout, everybody's results get their own folder
        export DLINTRO_OUTPUTS="$HOME/dlintro-outputs"
    fi
fi
