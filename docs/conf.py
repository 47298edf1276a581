"""The site: `sphinx-build -W docs build/site`, with the dependency group `docs`."""

import os

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from ep_hw import __version__
from ep_hw.cli.commands import app as command_line

project, author, release = "ep-hw", "the ep-hw developers", __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["pictures", "static"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2
nb_execution_mode = os.environ.get("EP_HW_NOTEBOOKS", "off")   # force: with their outputs; tests execute them anyway
nb_execution_timeout, nb_execution_in_temp, nb_execution_raise_on_error = 600, True, True
default_role = "code"       # of docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"ep-hw {release}"
html_theme_options = {"navigation_with_keys": True}
html_static_path, html_css_files = ["static"], ["site.css"]


class Help(SphinxDirective):
    """The help of the command that its argument names."""

    required_arguments = 1

    def run(self):
        """See `docutils.parsers.rst.Directive.run`."""
        (name,) = self.arguments
        command = get_command(command_line).commands[name]
        shown = command.make_context(name, ["digits"] * 9, resilient_parsing=True, terminal_width=88,
                                       help_option_names=["-h", "--help"]).get_help()
        block = nodes.literal_block(shown, shown.replace("Usage: ", "Usage: ep-hw ", 1))
        block["language"] = "text"
        return [block]


def inline(writer, node):
    """An equation in a line, as the MathML that browsers draw by themselves."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display(writer, node):
    """An equation on lines of its own."""
    writer.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def no_addresses(sphinx, page):
    """A threat and its strength in a docstring, pgd_l2@0.5, is no address of mail."""
    for node in list(page.findall(nodes.reference)):
        if node.get("refuri", "").startswith("mailto:"):
            node.replace_self(nodes.Text(node.astext()))


def setup(sphinx):
    """See the Sphinx extension interface."""
    sphinx.connect("doctree-read", no_addresses)
    sphinx.add_directive("help", Help)
    sphinx.add_html_math_renderer("mathml", (inline, None), (display, None))
