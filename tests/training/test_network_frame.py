"""Keras' own configuration, in the environment or in ~/.keras/keras.json, does not change what is trained."""

import json
import os
import subprocess
import sys

PROGRAM = """
from training import build
model = build("edge-nano", input_size=(32, 32), classes=3)
print(model.output_shape, {layer.data_format for layer in model.layers if hasattr(layer, "data_format")})
"""
MISTAKEN = "import types, sys; import keras; keras.backend.backend = lambda: 'jax'\n" + PROGRAM


def run(program, home, **environment):
    (home / ".keras").mkdir(exist_ok=True)
    (home / ".keras" / "keras.json").write_text(json.dumps({"backend": "jax", "image_data_format": "channels_first"}))
    variables = {**os.environ, "HOME": str(home), **environment}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=variables)


def test_another_backend_and_channels_first_are_no_matter(tmp_path):
    done = run(PROGRAM, tmp_path, KERAS_BACKEND="jax")
    assert done.stdout == "(None, 32, 32, 3) {'channels_last'}\n", done.stderr


def test_a_backend_that_is_loaded_already_is_refused(tmp_path):
    done = run(MISTAKEN, tmp_path, KERAS_BACKEND="tensorflow")
    assert (
        "UsageError: keras — its backend is jax in this process — expected tensorflow" in done.stderr.splitlines()[-1]
    )
