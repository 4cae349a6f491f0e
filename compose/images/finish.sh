#!/bin/sh
# What follows the installation: models that the image carries, the compiled gateway, byte code, the start script.
set -eu
mkdir -p /models /state/data /state/cache
if ls /wheelhouse/*.whl >/dev/null 2>&1; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheelhouse
fi
for name in ${MODEL_PACKAGES:-}; do
    PYTHONPATH=/app /pip/bin/python - "$name" <<'PYTHON'
import sys
from pathlib import Path

from capstan.common.models import ModelRef

print(ModelRef.parse(f"package:{sys.argv[1]}").resolve(Path("/state/fetched")))
PYTHON
done
if [ -d /state/fetched ]; then
    mv /state/fetched/models/* /models/
    rm -r /state/fetched
fi
case $SERVICE in vllm-worker) artifact=assistant ;; *) artifact=$SERVICE ;; esac
if [ -d "/build/artifacts/$artifact" ]; then
    cp -r "/build/artifacts/$artifact" /models/
fi
if [ "$SERVICE" = gateway ]; then
    sh /build/install.sh /compiler requirements-compiler.txt
    PYTHONPATH="$(echo /compiler/lib/python3*/site-packages)" \
        /venv/bin/python /build/services/gateway/compile.py --out /build/compiled
    cp -r /build/compiled/. /app/
fi
/venv/bin/python -m compileall -q -j 0 /app /venv/lib || true # some packages carry files of other Pythons
module=${SERVICE##*-}
name=$(echo "$module" | tr '[:lower:]' '[:upper:]')
cat > /app/serve <<SERVE
#!/bin/sh
export CAPSTAN_${name}_HOST="\${CAPSTAN_${name}_HOST:-0.0.0.0}"
exec python -m capstan.$module "\$@"
SERVE
chmod 755 /app/serve
