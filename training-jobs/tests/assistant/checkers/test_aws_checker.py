"""An aws command passes when aws would send the same request for it, and nothing is sent or read to find out."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.checkers.aws import canonical
from capstan.jobs.assistant.checkers.awscli import aws_cli
from capstan.jobs.assistant.items import Item

VPC = "aws ec2 create-vpc --cidr-block 10.0.0.0/16 --instance-tenancy dedicated"
TAGS = "aws ec2 create-tags --resources vpc-1a --tags Key=Name,Value=main"


def item(command: str) -> Item:
    return Item("1", "aws", "awscli:x", ({"role": "user", "content": "…"},), command, {"command": command})


def test_the_reference_is_exact() -> None:
    verdict = check(item(VPC), VPC)
    assert (verdict.passed, verdict.exact, verdict.reason) == (True, True, "right")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (VPC, "aws ec2 create-vpc --instance-tenancy dedicated --cidr-block 10.0.0.0/16"),
        (VPC, "aws ec2 create-vpc --cidr-block=10.0.0.0/16 --instance-tenancy 'dedicated'"),
        (VPC, "Here it is:\n```sh\n$ " + VPC.replace(" --", " \\\n    --") + "\n```"),
        (VPC, f"You can use `{VPC}` for that."),
        (TAGS, """aws ec2 create-tags --resources vpc-1a --tags '[{"Key": "Name", "Value": "main"}]'"""),
        (TAGS, "`" + TAGS + "`"),
    ],
)
def test_another_spelling_of_the_same_request_passes(command: str, answer: str) -> None:
    verdict = check(item(command), answer)
    assert (verdict.passed, verdict.exact, verdict.reason) == (True, False, "right")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("You can create a VPC in the console.", "no answer of the kind that was asked for"),
        ("aws ec3 create-vpc --cidr-block 10.0.0.0/16", "no such service"),
        ("aws ec2 make-vpc --cidr-block 10.0.0.0/16", "no such operation"),
        ("aws s3api create-bucket --bucket x", "another service"),
        ("aws ec2 delete-vpc --vpc-id vpc-1", "another operation"),
        ("aws ec2 delete-vpc", "a required option is missing"),
        (VPC + " --color blue", "an option that does not take this"),
        (VPC + " --tenant x", "an option that does not exist"),
        (VPC + " now", "an argument too many"),
        ("aws ec2 create-vpc --cidr-block 10.0.0.0/16", "other options"),
        (VPC + " --region us-east-1", "other options"),
        (VPC.replace("/16", "/24"), "another value"),
        ("aws ec2 create-vpc --cidr-block '10.0.0.0/16", "unbalanced quotes"),
        ("aws ec2 create-vpc --cidr-block", "an option without a value"),
        ("aws s3 make-bucket s3://x", "no such operation"),
        ("aws", "a required option is missing"),
        ("aws --version", "a version is asked for"),
        ("aws ec2 create-vpc --cidr-block 10.0.0.0/16 --version", "a version is asked for"),
    ],
)
def test_a_wrong_command_fails_with_its_reason(answer: str, reason: str) -> None:
    verdict = check(item(VPC), answer)
    assert (verdict.passed, verdict.exact, verdict.reason) == (False, False, reason)


def test_a_reference_that_the_parser_refuses_does_not_pass() -> None:
    broken = "aws ec2 delete-vpc"
    assert check(item(broken), broken).reason == "a required option is missing"


def test_a_flag_that_says_no_is_part_of_the_command() -> None:
    command = "aws rds modify-db-instance --db-instance-identifier a --no-multi-az"
    assert check(item(command), command).exact
    assert check(item(command), command.removesuffix(" --no-multi-az")).reason == "other options"
    assert check(item(command), command.replace("--no-", "--")).reason == "another value"


def test_no_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not read me")
    call = aws_cli().parse(f"aws iam create-policy --policy-name p --policy-document file://{secret}")
    assert "do not read me" not in str(call.values)
    inside = aws_cli().parse(f"aws ec2 create-tags --resources vpc-1a --tags Key=Name,Value@=file://{secret}")
    assert inside.values["Tags"] == [{"Key": "Name", "Value": f"file://{secret}"}]
    streamed = aws_cli().parse(f"aws s3api put-object --bucket b --key k --body {secret}")
    assert streamed.values["body"] == str(secret)


def test_commands_that_are_no_service_are_parsed_and_not_run() -> None:
    call = aws_cli().parse("aws s3 cp notes.txt s3://bucket/notes.txt --acl public-read")
    assert call.names == ("s3", "cp")
    assert call.values["acl"] == "public-read"
    assert aws_cli().parse("aws ec2 wait vpc-exists --vpc-ids vpc-1").names == ("ec2", "wait", "vpc-exists")


def test_a_command_is_written_in_one_way() -> None:
    assert canonical('aws x y --a="b c"   --d "e=f"') == "aws x y --a 'b c' --d e=f"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("aws ec2-vpc='\"{}[],:\\\n`"), max_size=60))
def test_no_answer_breaks_the_checker(text: str) -> None:
    for answer in (text, f"aws ec2 create-vpc {text}", f"{TAGS} {text}", f"aws ec2 create-tags --tags {text}"):
        assert not check(item(VPC), answer).exact
