"""The rustdoc JSON of the library's crates, for `.ci/api` and `.ci/doc-examples`."""

import json
import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES = ["lastack-wire", "lastack-engine", "lastack-link", "lastack-device", "lastack"]


def documents():
    """The rustdoc JSON of each crate, with all features."""
    # The JSON format is unstable. Only rustdoc gets the option for it, so that cargo uses what `cargo doc` has built.
    with tempfile.NamedTemporaryFile("w", suffix=".sh", delete=False) as wrapper:
        wrapper.write('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n')
    os.chmod(wrapper.name, 0o755)
    flags = "-Zunstable-options --output-format=json --cap-lints=allow"
    packages = [word for crate in CRATES for word in ("-p", crate)]
    try:
        subprocess.run(["cargo", "doc", "--quiet", "--lib", "--no-deps", "--all-features", *packages], cwd=ROOT, check=True,
                       env=dict(os.environ, RUSTDOC=wrapper.name, RUSTDOCFLAGS=flags))
    finally:
        os.unlink(wrapper.name)
    read = lambda crate: json.loads((ROOT / "target/doc" / (crate.replace("-", "_") + ".json")).read_text())
    return {crate: read(crate) for crate in CRATES}
