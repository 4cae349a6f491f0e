from capstan.extract.markup import extract_html
from capstan.extract.page import Page
from capstan.extract.rules import PageRules


def extract(html: str, **rules: object) -> Page:
    return extract_html(html, PageRules.model_validate(rules), "fallback")


def text_of(html: str, **rules: object) -> str:
    return "\n\n".join(section.text for section in extract(html, **rules).sections)


def test_headings_become_paths_and_the_first_one_the_title() -> None:
    page = extract("<h1>Guide</h1><p>Intro.</p><h2>Use</h2><p>A.</p><h3>More</h3><p>B.</p><h2>End</h2><p>C.</p>")
    assert page.title == "Guide"
    assert [(s.heading, s.text) for s in page.sections] == [
        ((), "Intro."),
        (("Use",), "A."),
        (("Use", "More"), "B."),
        (("End",), "C."),
    ]


def test_several_top_headings_are_sections_under_the_head_title() -> None:
    page = extract("<title>Manual</title><h1>NAME</h1><p>x</p><h1>SEE ALSO</h1><p>y</p>")
    assert page.title == "Manual"
    assert [s.heading for s in page.sections] == [("NAME",), ("SEE ALSO",)]


def test_navigation_scripts_forms_and_permalinks_leave_nothing() -> None:
    html = """<nav>Home | Next</nav><div role=navigation>Prev</div><form>Search <input></form><script>x()</script>
    <style>b{}</style><h1>T<a class=headerlink href=#t>¶</a></h1><p>Text.</p><button>hide</button>
    <div class="toctree-wrapper"><ul><li><a href=a>A</a></ul></div><div role=contentinfo>Copyright</div>"""
    assert text_of(html) == "Text."
    assert extract(html).title == "T"


def test_code_keeps_its_columns_and_names_its_language() -> None:
    html = '<div class="highlight-python3"><div><pre><span>def</span> f():\n    return 1\n</pre></div></div>'
    assert text_of(html) == "```python\ndef f():\n    return 1\n```"
    assert text_of('<pre><code class="language-c">int x;</code></pre>') == "```c\nint x;\n```"


def test_lists_nest_and_count() -> None:
    html = "<ul><li>one<ul><li>deep</ul><li>two</ul><ol><li>first<li>second</ol>"
    assert text_of(html) == "- one\n  - deep\n- two\n1. first\n2. second"


def test_definition_lists_are_items_with_all_their_terms() -> None:
    html = "<dl><dt>-n<dt>--dry-run<dd><p>Do nothing.</p><p>Really.</p><dt>-l N<br>--limit=N<dd>Limit.</dl>"
    assert text_of(html) == "- -n, --dry-run: Do nothing.\n\nReally.\n\n- -l N, --limit=N: Limit."


def test_a_question_as_a_term_needs_no_colon() -> None:
    assert (
        text_of("<dl><dt>How do I undo it?</dt><dd>With git revert.</dd></dl>")
        == "- How do I undo it? With git revert."
    )


def test_a_bullet_as_a_term_is_a_plain_item() -> None:
    assert text_of("<dl><dt>•</dt><dd>one</dd></dl><dl><dt>•</dt><dd>two</dd></dl>") == "- one\n- two"


def test_a_long_entry_of_a_definition_list_is_a_section_of_its_own() -> None:
    page = extract(
        f"<h1>F</h1><dl><dt>abs X</dt><dd>Short.</dd><dt>sort X</dt><dd>{'Long. ' * 200}</dd></dl><p>End.</p>"
    )
    assert [s.heading for s in page.sections] == [(), ("sort X",), ()]
    assert page.sections[0].text == "- abs X: Short."


def test_a_heading_as_long_as_a_paragraph_is_cut_and_kept() -> None:
    long = "word " * 100
    page = extract(f"<h1>T</h1><h2>{long}</h2><p>More.</p>")
    ((heading,), text) = page.sections[0].heading, page.sections[0].text
    assert len(heading) <= 200
    assert heading.endswith("word …")
    assert text == f"{long.strip()}\n\nMore."
    assert len(extract(f"<h1>{long}</h1><p>Text.</p>").sections) == 1


def test_long_entries_nest() -> None:
    inner = f"<dl><dt>mode</dt><dd>{'How. ' * 200}</dd></dl>"
    page = extract(f"<h1>F</h1><dl><dt>open X</dt><dd><p>Opens.</p>{inner}<p>Closes.</p></dd></dl>")
    assert [s.heading for s in page.sections] == [("open X",), ("open X", "mode"), ("open X",)]


def test_tables_are_rows_and_layout_tables_are_not() -> None:
    table = "<table><tr><th>Mode<th>Means</tr><tr><td>r<td>read <b>only</b></tr></table>"
    assert text_of(table) == "Mode | Means\nr | read only"
    assert text_of("<table><tr><td>Note</td><td><p>See:</p><pre>x = 1</pre></td></tr></table>") == (
        "Note\n\nSee:\n\n```\nx = 1\n```"
    )


def test_admonitions_begin_with_their_kind() -> None:
    sphinx = '<div class="admonition warning"><p class="admonition-title">Warning</p><p>Hot.</p></div>'
    docbook = '<div class="note"><h3 class="title">Note</h3><p>Mind this.</p></div>'
    assert text_of(f"<h1>T</h1>{sphinx}{docbook}") == "Warning: Hot.\n\nNote: Mind this."


def test_api_definitions_are_sections_with_their_signature() -> None:
    html = """<h1>bisect</h1><dl class="py function"><dt class="sig sig-object py" id="bisect.insort">
    <span class="sig-prename descclassname">bisect.</span><span class="sig-name descname">insort</span>
    <span class="sig-paren">(</span><em>a</em>, <em>x</em><span class="sig-paren">)</span></dt>
    <dd><p>Insert.</p></dd></dl><p>After.</p>"""
    page = extract(html)
    assert [s.heading for s in page.sections] == [("bisect.insort()",), ()]
    assert page.sections[0].text == "```\nbisect.insort (a, x)\n```\n\nInsert."
    assert [s.heading for s in extract(html, open_definitions=True).sections] == [("bisect.insort()",)]


def test_bold_titles_and_numbers_where_the_recipe_says_so() -> None:
    html = "<p><strong>Example 1: To copy</strong></p><p>Run <b>cp</b>.</p><p><b>Output:</b></p>"
    page = extract(html, bold_headings=True, numbered=True)
    assert [(s.heading, s.text) for s in page.sections] == [(("To copy",), "Run cp.\n\nOutput:")]
    assert [s.heading for s in extract(html).sections] == [()]


def test_recipe_selectors() -> None:
    html = """<title>11.8. Examining Usage</title><div class=navheader><a>Prev</a><th>x</th></div>
    <p class=up>Chapter 11. Indexes</p><h2>11.8. Examining Usage</h2><p>A partial index.</p>"""
    page = extract(html, title="head", numbered=True, parent=".up", drop=".navheader, .up")
    assert page.title == "Examining Usage (Indexes)"
    assert [(s.heading, s.text) for s in page.sections] == [((), "A partial index.")]


def test_link_share_tells_lists_of_links_from_text() -> None:
    assert extract("<ul><li><a href=a>One</a><li><a href=b>Two</a></ul>").link_share == 1.0
    assert extract("<p>Words without links, and <a href=a>one</a>.</p>").link_share < 0.2


def test_a_repeated_line_break_in_code_is_one() -> None:
    assert text_of("<pre>int main()\n{\n<br/>\n    return 0;\n}</pre>") == "```\nint main()\n{\n    return 0;\n}\n```"


def test_broken_markup_keeps_its_text() -> None:
    assert text_of("<p>one<div>two<ul><li>three</p></span>") == "one\n\ntwo\n\n- three"
    assert extract("").sections == []
