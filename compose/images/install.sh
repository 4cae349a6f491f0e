#!/bin/sh
# install.sh VENV FILE…: a virtual environment without pip, filled from the wheelhouse if that has wheels; packages that
# hashes.txt knows have to be those files.
set -eu
venv=$1
shift
[ -d /pip ] || python3 -m venv /pip
[ -d "$venv" ] || python3 -m venv --without-pip "$venv"
if ls /wheelhouse/*.whl >/dev/null 2>&1; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheelhouse
elif [ -n "${TORCH_INDEX_URL:-}" ]; then
    export PIP_EXTRA_INDEX_URL="$TORCH_INDEX_URL"
fi
for file in "$@"; do
    "$venv/bin/python" /build/hashes.py split "/requirements/$file" --out /tmp/requirements
    for part in hashed plain; do # pip's hash-checking mode is for all of a file or for none of it
        [ -s "/tmp/requirements/$part.txt" ] || continue
        /pip/bin/pip --python "$venv/bin/python" install --no-deps --no-input --no-cache-dir --no-compile \
            --disable-pip-version-check --progress-bar off --root-user-action ignore -r "/tmp/requirements/$part.txt"
    done
done
