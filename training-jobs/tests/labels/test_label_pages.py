from capstan.jobs.labels.entry import Link
from capstan.jobs.labels.html import html_entries, place_heading

SPHINX = """<body><div role="main"><section id="faq"><h1>FAQ</h1>
<nav><a href="#copy">contents</a></nav>
<section id="general"><h2>1. General<a class="headerlink" href="#general">¶</a></h2>
<section id="copy"><h3>How do I <code>copy</code>?<a class="headerlink" href="#copy">¶</a></h3>
<p>Use <a href="../library/copy.html#copy.copy">copy</a>.</p><pre>copy(x)</pre></section>
</section></section></div></body>"""


def test_the_innermost_sections_of_a_sphinx_page_are_questions():
    (entry,) = html_entries(SPHINX, "sections", "[role=main]")
    assert entry.heading == "How do I copy?"
    assert entry.links == (Link("../library/copy.html", "copy.copy"),)
    assert entry.answer == "Use copy.\n\n```\ncopy(x)\n```"


def test_terms_of_an_asciidoc_page_are_questions():
    page = '<div class="dlist"><dl><dt>Why?</dt> <dd><p>See <a href="git-pull.html">it</a>.</p></dd></dl></div>'
    (entry,) = html_entries(page, "definitions", "body")
    assert (entry.heading, entry.answer, entry.links) == ("Why?", "See it.", (Link("git-pull.html"),))


def test_numbered_bold_lines_of_sqlites_page_are_questions():
    page = (
        "<p><b>(12) Is it\n safe?</b></p><blockquote>It is.</blockquote><p><b>Not one</b></p><blockquote>x</blockquote>"
    )
    (entry,) = html_entries(page, "numbered", "body")
    assert (entry.heading, entry.answer) == ("Is it safe?", "It is.")


def test_an_anchor_stands_for_the_heading_or_the_definition_there():
    page = """<section id="s"><h2>2.1. Sorting</h2><dl><dt class="sig" id="f"><span class="descname">sorted</span>
    <span class="sig-paren">(</span>)</dt></dl></section>
    <a name="q"></a><h3>Query</h3><span id="x"></span><p>text</p>"""
    assert place_heading(page, "s") == "Sorting"
    assert place_heading(page, "f") == "sorted()"
    assert place_heading(page, "q") == "Query"
    assert place_heading(page, "x") == ""
    assert place_heading(page, "nowhere") == ""
