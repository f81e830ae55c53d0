"""Where an estimator's picture in a notebook links to."""


class DocLinkMixin:
    """Point the documentation link of scikit-learn's HTML representation to this project's docs."""

    _doc_link_module = "skllmreg"
    _doc_link_template = (
        "https://skllmreg.readthedocs.io/en/stable/generated/skllmreg.{estimator_name}.html"
    )
