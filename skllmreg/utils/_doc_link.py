"""Link the HTML representation of an estimator to its documentation."""

import skllmreg


class DocLinkMixin:
    """Point the documentation link of scikit-learn's HTML representation to this project's docs."""

    _doc_link_module = "skllmreg"
    _doc_link_template = "https://skllmreg.readthedocs.io/en/stable/generated/{public_name}.html"

    def _doc_link_url_param_generator(self):
        name = type(self).__name__
        home = "skllmreg" if name in skllmreg.__all__ else "skllmreg.students"
        return {"public_name": f"{home}.{name}"}
