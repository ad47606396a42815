"""The networks and recipes of the package, and the modules of the recognizer, which are imported by name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

datas = collect_data_files("mien") + copy_metadata("mien")
hiddenimports = collect_submodules("mien.face")
