#!/bin/bash
# SimplerEnv on a machine without a GPU: make.sh SIMPLER_ENV MANISKILL2_REAL2SIM OUT
#
# The first two are checkouts of simpler-env/SimplerEnv@4ab7178 and simpler-env/ManiSkill2_real2sim@ef7a4d4. OUT gets a
# Python with both, the Vulkan layer of this folder, and OUT/python, which starts that Python with the layer and Mesa's
# lavapipe: simulator=OUT/python, or VLAJEPA_SIMPLER=OUT/python for the tests. Needs Python 3.11, a C compiler and, on
# Debian 12, `apt-get install -t bookworm-backports mesa-vulkan-drivers libvulkan-dev`; Mesa 25.0.7 was used. VULKAN is
# a folder in which those packages lie unpacked instead (/ is the default).
set -euo pipefail
simpler=$(realpath "$1") maniskill=$(realpath "$2") here=$(dirname "$(realpath "$0")")
mkdir -p "$3"
out=$(realpath "$3") vulkan=${VULKAN:-}

[ -e "$out/venv" ] || "${PYTHON:-python3.11}" -m venv "$out/venv"
# sapien imports pkg_resources, and both projects are of NumPy 1
"$out/venv/bin/pip" install -q 'numpy<2' 'setuptools<81' 'trimesh<5'
"$out/venv/bin/pip" install -q 'numpy<2' -e "$maniskill" -e "$simpler"

cc -shared -fPIC -O2 -Wall -Wextra -I"$vulkan/usr/include" -o "$out/semaphore_fd.so" "$here/semaphore_fd.c"
cp "$here/semaphore_fd.json" "$out/"
"$out/venv/bin/python" "$here/stand_ins.py" "$maniskill/data" "$out/data"

driver=$(echo "$vulkan"/usr/share/vulkan/icd.d/lvp_icd*.json)
libraries=${vulkan:+$vulkan/usr/lib/x86_64-linux-gnu}
cat > "$out/python" <<END
#!/bin/sh
export VK_ICD_FILENAMES='$driver' VK_LAYER_PATH='$out' VK_INSTANCE_LAYERS=VK_LAYER_VLAJEPA_semaphore_fd
export LD_LIBRARY_PATH='$libraries':"\${LD_LIBRARY_PATH:-}" MS2_REAL2SIM_ASSET_DIR="\${MS2_REAL2SIM_ASSET_DIR:-$out/data}"
exec '$out/venv/bin/python' "\$@"
END
chmod +x "$out/python"
