.PHONY: install demo test
.DEFAULT_GOAL := test

install:
	scripts/install

demo: install ## the four models on drawn faces, in a few minutes
	.venv/bin/mien study --suite smoke --data synthetic:900 --out runs/demo --final

test: install ## every check and every test
	scripts/test
