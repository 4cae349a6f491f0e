from capstan.jobs.labels.entry import Link
from capstan.jobs.labels.pod import inline, pod_entries

PAGE = """=head1 NAME

perlfaq9 - X<network>Web

=head1 Web

=head2 How do I fetch C<< a->b >>?

(contributed by someone) Use L<HTTP::Tiny>, or see
L<perlop/"Floating-point Arithmetic"> and L<the docs|perlfunc/sort>:

    my $x = 1;

    print $x;

=over 4

=item * one L<https://example.org/page>

=back

=head3 More

Ask L<the web|https://example.org>. And flock(2).

=head2 Second?

See I<B<perlsub>> and $fh->autoflush(1).

=head1 AUTHOR

Somebody in L<perlhist>.
"""


def test_a_question_has_its_heading_its_answer_and_its_links():
    first, second = pod_entries(PAGE)
    assert first.heading == "How do I fetch a->b?"
    assert first.links == (
        Link("HTTP::Tiny"),
        Link("perlop", "Floating-point Arithmetic"),
        Link("perlfunc", "sort"),
        Link("flock(2)"),
    )
    assert '"Floating-point Arithmetic" in perlop and the docs:' in first.answer
    assert "```\nmy $x = 1;\n\nprint $x;\n```" in first.answer
    assert "- one https://example.org/page" in first.answer
    assert "Ask the web." in first.answer
    assert second.heading == "Second?"
    assert second.answer == "See perlsub and $fh->autoflush(1)."


def test_what_follows_the_next_chapter_is_no_answer():
    *_, last = pod_entries(PAGE)
    assert last.links == ()


def test_escapes_stand_for_themselves_inside_other_codes():
    assert (
        inline("C<$a E<lt> $b> and L<perlvar/$E<sol>>", links := [])
        == 'C" and'.replace('C"', "$a < $b") + ' "$/" in perlvar'
    )
    assert links == [Link("perlvar", "$/")]
