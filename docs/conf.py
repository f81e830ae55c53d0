"""Sphinx configuration; the build needs no network."""

import re

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx_gallery.sorting import ExplicitOrder

import skllmreg

project = "skllmreg"
author = "The skllmreg developers"
copyright = f"2026, {author}"
version = release = skllmreg.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # _templates/autosummary/class.rst lists them
html_math_renderer = "mathml"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "within_subsection_order": ExplicitOrder(
        [
            "plot_few_shot.py",
            "plot_review_scores.py",
            "plot_pipeline.py",
            "plot_baselines.py",
            "plot_skewed_data.py",
            "plot_distillation.py",
            "plot_selection_search.py",
            "plot_growing.py",
            "*",
            "plot_local_model.py",
        ]
    ),
    "abort_on_example_error": True,
    "reference_url": {"skllmreg": None},
    "doc_module": ("skllmreg",),
    "backreferences_dir": "generated/backreferences",
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "min_reported_time": 1000,
}

html_theme = "pydata_sphinx_theme"
html_title = "skllmreg"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {
    "index": [],
    "install": [],
    "api": [],
    "changelog": [],
    "comparison": [],
    "auto_examples/**": [],
}


def setup(app):
    app.connect("autodoc-skip-member", skip_metadata_requests)
    app.connect("include-read", markdown_to_rst)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))


def skip_metadata_requests(app, what, name, obj, skip, options):
    """Leave out scikit-learn's generated set_{method}_request: their text links into its docs."""
    return skip or bool(re.fullmatch(r"set_\w+_request", name))


def markdown_to_rst(app, path, docname, content):
    """Let the changelog be CHANGES.md without a Markdown parser: headings, code and links."""
    if path.suffix == ".md":
        text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", content[0])
        text = re.sub(r"\[([^]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", text)
        text = re.sub(r"^# .*\n", "", text)
        rule = {2: "-", 3: "~"}
        content[0] = re.sub(
            r"^(##+) (.*)$",
            lambda m: f"{m[2]}\n{rule[len(m[1])] * len(m[2])}",
            text,
            flags=re.MULTILINE,
        )


def inline_math(self, node):
    """Render as MathML, so that pages need no script from elsewhere."""
    self.body.append(tex2mathml(node.astext()))
    raise SkipNode


def block_math(self, node):
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode
