"""The networks and recipes of the package, and the commands, which are imported when they are called."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

datas = collect_data_files("mien") + copy_metadata("mien")
hiddenimports = collect_submodules("mien.cli") + collect_submodules("mien.face")
