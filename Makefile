.PHONY: install demo test pages
.DEFAULT_GOAL := test

install:
	scripts/install

DEMO = build/demo

demo: install ## four models on drawn faces, and a drawn group's emotions, in two minutes
	.venv/bin/mien study --suite smoke --data synthetic:1200 --out $(DEMO)/study --final
	.venv/bin/python tools/draw_scene.py $(DEMO)/scene.png
	.venv/bin/mien predict $(DEMO)/scene.png --format table --annotated $(DEMO)/annotated
	@echo "annotated picture: $(DEMO)/annotated/scene.png"
	@echo "page:              $(DEMO)/study/index.html"

pages: install ## every page, plot and model card of results/, without faces, in build/pages
	.venv/bin/python -m tools.pages build/pages

test: install ## every check and every test, and those without torch on a second Python
	scripts/test
	scripts/test-plain
