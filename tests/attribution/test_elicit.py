import json
import string
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skllmreg import (
    ChatModel,
    LLMAttributionRegularizedClassifier,
    describe_features,
    elicit_attributions,
)
from skllmreg.attribution._features import column_names, features_to_score
from skllmreg.attribution._prompts import (
    MOST_FEATURES,
    class_goal,
    description_question,
    importance_goal,
    score_question,
    split_features,
    target_goal,
)
from skllmreg.exceptions import InvalidReplyError, UndescribedClassWarning
from skllmreg.utils._json import UnusableError, parse_json
from tests.loopback import last

TASK = "Predict whether the patient is ill."
GOAL = class_goal("ill", ["ill", "well"], None)
ODD_NAMES = [
    "{x}",
    "{0.__class__}",
    "%s",
    '"quoted"',
    "back\\slash",
    "two\nlines",
    "```",
    "",
    " ",
    " padded ",
    "größe",
    "年齢",
    "🩸 count",
    "half \ud83d",
    "CHD",
    "СHD",  # the first letter is Cyrillic
    "feature_1",
    "n" * 200,
    "a: b",
    "od280/od315",
]


def constant(value):
    """Reply with the same value for every key that the schema asks for."""

    def reply(body):
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        return json.dumps(dict.fromkeys(properties, value))

    return reply


@pytest.fixture
def llm(loopback):
    loopback.reply = constant(3)
    return ChatModel("tiny", base_url=loopback.base_url)


# The prompt and how its reply is read, as one table: reply to the question about a, b and größe.
QUESTION = score_question(TASK, GOAL, {"a": "", "b": "", "größe": ""})
READ = {"a": -10, "b": 0, "größe": 10}


@pytest.mark.parametrize(
    "reply",
    [
        '{"a": -10, "b": 0, "feature_3": 10}',
        '{"feature_3": 10, "b": 0, "a": -10}',
        '{"a": -10.0, "b": 0, "feature_3": 1e1}',
        '```json\n{"a": -10, "b": 0, "feature_3": 10}\n```',
        'Here you are:\n{"a": -10, "b": 0, "feature_3": 10}\nThe "size" counts most.',
    ],
)
def test_replies_that_are_read(reply):
    assert QUESTION.read(parse_json(reply, QUESTION.schema)) == READ


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ('{"a": 1, "b": 0}', "feature_3 is missing"),
        ('{"a": 1, "b": 0, "feature_3": 1, "c": 2}', "c was not asked for"),
        ('{"A": 1, "b": 0, "feature_3": 1}', "a is missing"),
        ('{"a": 1, "a": 2, "b": 0, "feature_3": 1}', "'a' is given more than once"),
        ('{"a": 11, "b": 0, "feature_3": 1}', "a is 11, not from -10 to 10"),
        ('{"a": 1.5, "b": 0, "feature_3": 1}', "a is of the wrong type"),
        ('{"a": NaN, "b": 0, "feature_3": 1}', "NaN is no JSON"),
        ('{"a": "high", "b": 0, "feature_3": 1}', "a is of the wrong type"),
        ("[1, 0, 1]", "is of the wrong type|no JSON object"),
        ("I cannot say.", "no JSON object"),
    ],
)
def test_replies_that_are_refused(reply, problem):
    with pytest.raises(UnusableError, match=problem):
        QUESTION.read(parse_json(reply, QUESTION.schema))


def test_prompt_says_what_the_scores_mean():
    prompt = score_question(
        TASK,
        class_goal(1, [0, 1, 2], {1: "the illness"}),
        {"age": "In years", "größe": "Height", "sex_male": ""},
    ).prompt
    assert f"Task: {TASK}" in prompt
    assert "no rows of the data are shown" in prompt
    assert "Classes: 0; 1 (the illness); 2\nThe class to score: 1 (the illness)" in prompt
    assert "-10 to 10: how does a larger value of the feature change" in prompt
    assert "against all other classes together" in prompt
    assert '\n"age": In years\n"feature_2" stands for "größe": Height\n"sex_male"\n' in prompt
    assert "the 3 names" in prompt


def test_goals_differ():
    goals = [GOAL, class_goal("well", ["ill", "well"], None), target_goal(), importance_goal(None)]
    assert len({score_question(TASK, goal, {"a": ""}).prompt for goal in goals}) == 4


def test_importance_has_no_negative_scores():
    question = score_question(TASK, importance_goal({"ill": "sick"}), {"a": ""}, least=0)
    assert question.schema["properties"]["a"]["minimum"] == 0
    assert "Classes: ill (sick)" in question.prompt


def test_odd_names_get_keys_that_can_be_copied():
    question = score_question(TASK, GOAL, dict.fromkeys(ODD_NAMES, ""))
    plain = {"{x}", "{0.__class__}", "%s", "CHD", "feature_1", "a: b", "od280/od315"}
    assert {name for key, name in question.names.items() if key == name} == plain
    allowed = set(string.ascii_letters + string.digits + string.punctuation + " ")
    assert all(set(key) <= allowed for key in question.names)


def keys_of(question):
    return list(question.schema["properties"])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.text() | st.sampled_from(ODD_NAMES), min_size=1, max_size=20, unique=True),
    st.text(),
    st.data(),
)
def test_any_names_and_texts_come_back_by_name(names, text, data):
    scores = {name: data.draw(st.integers(-10, 10)) for name in names}
    question = score_question(
        text, class_goal(text, [text, "other"], {text: text}), dict.fromkeys(names, text)
    )
    question.prompt.encode()  # can be sent
    # What the prompt says of a key and what is read under it are the same feature.
    assert list(question.names.values()) == names
    order = data.draw(st.permutations(keys_of(question)))
    reply = json.dumps({key: scores[question.names[key]] for key in order})
    fenced = f"Sure.\n```json\n{reply}\n```\nDone."
    for wrapped in (reply, fenced):
        assert question.read(parse_json(wrapped, question.schema)) == scores
    description_question(text, names).prompt.encode()


@settings(deadline=None, max_examples=200)
@given(
    st.text()
    | st.dictionaries(
        st.sampled_from(["a", "b", "feature_3", "x"]),
        st.integers() | st.floats() | st.text() | st.none() | st.booleans(),
    ).map(json.dumps)
)
def test_any_reply_is_read_whole_or_refused(reply):
    try:
        scores = QUESTION.read(parse_json(reply, QUESTION.schema))
    except UnusableError:
        return
    assert scores.keys() == READ.keys()
    assert all(type(score) is int and -10 <= score <= 10 for score in scores.values())


@pytest.mark.parametrize("n", [1, MOST_FEATURES, MOST_FEATURES + 1, 2000])
def test_many_features_are_split_into_even_parts_in_order(n):
    features = {f"f{i}": "" for i in range(n)}
    parts = split_features(features)
    assert [name for part in parts for name in part] == list(features)
    sizes = [len(part) for part in parts]
    assert max(sizes) <= MOST_FEATURES
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("classes", "n_questions", "keys"),
    [
        (["well", "ill"], 1, ["well"]),
        (np.array(["c", "a", "b", "a"]), 3, ["a", "b", "c"]),
        (None, 1, None),
    ],
    ids=["two classes", "three classes", "regression"],
)
def test_one_question_per_scored_class(loopback, llm, classes, n_questions, keys):
    said = elicit_attributions(llm, task=TASK, feature_names=["age", "bmi"], classes=classes)
    assert len(loopback.requests) == 5 * n_questions
    assert len(set(loopback.prompts)) == n_questions
    estimates = [{"age": 3, "bmi": 3}] * 5
    assert said.to_estimates() == (dict.fromkeys(keys, estimates) if keys else estimates)


def test_all_questions_are_asked_at_the_same_time(loopback, llm):
    reply, all_are_here = loopback.reply, threading.Barrier(15)

    def reply_when_all_have_asked(body):
        all_are_here.wait(timeout=30)
        return reply(body)

    loopback.reply = reply_when_all_have_asked
    llm.max_concurrency = 15
    elicit_attributions(llm, task=TASK, feature_names=["age"], classes=list("abc"))
    assert len(loopback.requests) == 15


def test_answers_go_to_their_class_and_estimate(loopback, llm):
    count = dict.fromkeys("abc", 0)

    def reply(body):
        label = last(body).split("The class to score: ")[1][0]
        count[label] += 1
        return json.dumps({"age": count[label], "bmi": -"abc".index(label)})

    loopback.reply = reply
    llm.max_concurrency = 1  # so that the first sample is answered first
    said = elicit_attributions(
        llm, task=TASK, feature_names=["age", "bmi"], classes=list("cab"), n_estimates=3
    )
    for i, label in enumerate("abc"):
        assert said.scores(label) == {"age": [1, 2, 3], "bmi": [-i] * 3}


def test_labels_of_numpy_become_labels_of_python(llm):
    said = elicit_attributions(
        llm,
        task=TASK,
        feature_names=["age"],
        classes=np.array([0, 1]),
        class_descriptions={0: "well", np.int64(1): "ill"},
    )
    assert [type(label) for label in said.labels] == [int]


def test_provenance_tells_what_was_asked(llm):
    params = {"task": TASK, "classes": ["ill", "well"], "n_estimates": 1}
    described = {"age": "In years", "bmi": ""}
    said = elicit_attributions(llm, feature_descriptions=described, **params)
    assert (said.task, said.model, said.n_described, said.n_estimates) == (TASK, "tiny", 1, 1)
    bare = elicit_attributions(llm, feature_names=["age", "bmi"], **params)
    assert bare.n_described == 0
    assert "from names alone" in repr(bare)
    assert bare.prompt_hash != said.prompt_hash


def test_many_features_come_back_whole(loopback, llm):
    names = [f"gene {i}" for i in range(250)]
    said = elicit_attributions(
        llm, task=TASK, feature_names=names, classes=["a", "b"], n_estimates=2
    )
    assert said.feature_names == names
    assert len(loopback.requests) == 2 * 3
    assert "These are features 84 to 166 of 250" in "".join(loopback.prompts)


def test_a_reply_that_stays_wrong_is_an_error_that_shows_it(loopback, llm):
    loopback.reply = lambda body: '{"age": 99}'
    with pytest.raises(InvalidReplyError, match="age is 99, not from -10 to 10"):
        elicit_attributions(llm, task=TASK, feature_names=["age"], n_estimates=1)


# What is asked about, whatever a fold holds.


@pytest.mark.parametrize(
    ("names", "descriptions", "asked"),
    [
        (["a", "b"], None, ["a", "b"]),
        (["a"], {"b": "B", "a": "A"}, ["b", "a"]),
        (["num__a", "cat__c_x"], {"a": "A", "c_x": "X", "c_y": "Y"}, ["a", "c_x", "c_y"]),
        (["num__a", "cat__c_x"], {"a": "A", "c": "C"}, ["num__a", "cat__c_x"]),
        (["one__a", "two__a"], {"a": "A"}, ["one__a", "two__a"]),
        (["a", "b"], ["A", "B"], ["a", "b"]),
        (None, {"a": "A"}, ["a"]),
        (None, ["A", "B"], ["x0", "x1"]),
    ],
)
def test_the_question_is_about_the_full_set_where_it_is_known(names, descriptions, asked):
    assert features_to_score(names, descriptions) == asked


def test_folds_with_other_categories_ask_the_same(loopback, llm):
    described = {"age": "Years", "c_x": "x", "c_y": "y"}
    for names in (["age", "cat__c_x"], ["age", "cat__c_y"], ["age", "cat__c_x", "cat__c_y"]):
        elicit_attributions(
            llm, task=TASK, feature_names=names, feature_descriptions=described, n_estimates=2
        )
    assert len(loopback.requests) == 2


def table(n_classes):
    """60 rows with a category that is too rare for every fold, and its full description."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 3)), columns=["age", "bmi", "dose"])
    X["site"] = np.where(np.arange(60) == 7, "rare", rng.choice(["left", "right"], 60))
    described = {"age": "Years", "bmi": "kg/m²", "dose": "mg"}
    described |= {f"site_{value}": "Where" for value in ("left", "rare", "right")}
    return X, np.array(["a", "b", "c"])[rng.integers(n_classes, size=60)], described


@pytest.mark.slow
@pytest.mark.parametrize(("n_classes", "n_questions"), [(2, 1), (3, 3)])
def test_a_grid_search_asks_each_estimate_once(loopback, llm, tmp_path, n_classes, n_questions):
    llm.cache = tmp_path / "cold.sqlite3"  # workers keep the environment of an earlier test
    X, y, described = table(n_classes)
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["site"]),
        remainder="passthrough",
    ).set_output(transform="pandas")
    model = LLMAttributionRegularizedClassifier(llm, task=TASK, feature_descriptions=described)
    loopback.latency = 0.05  # long enough for the workers to want the same answer
    search = GridSearchCV(
        make_pipeline(encoder, model),
        {"llmattributionregularizedclassifier__gamma": [0.1, 1, 10, 100]},
        cv=5,
        n_jobs=2,
        error_score="raise",
    ).fit(X, y)
    assert len(loopback.requests) == 5 * n_questions
    assert search.best_estimator_[-1].attribution_estimates_.shape == (5, n_questions, 6)
    without_rare = encoder.fit(X.drop(index=7)).get_feature_names_out()
    assert len(without_rare) == 5  # the folds did have different columns


@pytest.mark.parametrize(
    ("name", "descriptions", "line"),
    [
        ("sex_male", {"sex": "Sex at birth"}, '"sex_male": sex = male: Sex at birth'),
        ("cat__sex_male", {"sex": "Sex"}, '"cat__sex_male": sex = male: Sex'),
        ("sex_male", {"sex": "Sex", "sex_male": "A man"}, '"sex_male": A man'),
        ("a_b_c", {"a": "A", "a_b": "AB"}, '"a_b_c": a_b = c: AB'),
        ("a_b", {"a": "A", "a_b": None}, '"a_b": a = b: A'),
        ("a", {"a": "two\nlines  {x}"}, '"a": two lines {x}'),
    ],
)
def test_descriptions_reach_their_columns(loopback, llm, name, descriptions, line):
    elicit_attributions(
        llm,
        task=TASK,
        feature_names=[name, "other"],
        feature_descriptions=descriptions,
        n_estimates=1,
    )
    assert line in loopback.prompts[0].splitlines()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({}, "Give X as a data frame"),
        ({"feature_names": []}, "no feature names"),
        ({"feature_names": ["a", "a"]}, "'a' is given twice"),
        ({"feature_names": ["x0", "scaler__x1"]}, "made up for an array"),
        ({"feature_names": ["a"], "feature_descriptions": {"b": "B"}}, "describes none"),
        ({"feature_names": ["a"], "feature_descriptions": ["A", "B"]}, "2 items for 1 columns"),
        ({"feature_names": ["a"], "classes": ["x", "x"]}, "at least two labels"),
        (
            {"feature_names": ["a"], "classes": ["x", "y"], "class_descriptions": {"z": "Z"}},
            "describes 'z', but the classes are 'x', 'y'",
        ),
        ({"feature_names": ["a"], "class_descriptions": {"z": "Z"}}, "give the classes too"),
        ({"feature_names": ["a"], "n_estimates": 0}, "n_estimates is a positive integer"),
        ({"feature_names": ["a"], "task": " "}, "task says in a sentence"),
    ],
)
def test_wrong_input_is_an_error_before_anything_is_sent(loopback, llm, params, match):
    with pytest.raises(ValueError, match=match):
        elicit_attributions(llm, **{"task": TASK} | params)
    assert not loopback.seen


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"feature_names": [1]}, "Feature names are strings, got 1"),
        ({"feature_descriptions": {"a": 1}}, "description of feature 'a' is 1"),
        ({"feature_names": ["a"], "feature_descriptions": "A"}, "got str"),
        (
            {"feature_names": ["a"], "classes": ["x", "y"], "class_descriptions": {"x": 1}},
            "description of class 'x' is 1",
        ),
        ({"feature_names": ["a"], "llm": "gpt-4o"}, "llm is a ChatModel, .* got 'gpt-4o'"),
    ],
)
def test_wrong_types_are_named(llm, params, match):
    with pytest.raises(TypeError, match=match):
        elicit_attributions(**{"llm": llm, "task": TASK} | params)


def test_numbers_as_classes_need_a_description(llm):
    with pytest.warns(UndescribedClassWarning, match="asked about 0, 1 without"):
        elicit_attributions(llm, task=TASK, feature_names=["a"], classes=[0, 1])


@pytest.mark.parametrize("descriptions", [None, {"a": "A", "b": "B"}])
def test_an_array_without_names_is_an_error_that_says_how_to_give_them(descriptions):
    with pytest.raises(ValueError, match=r"set_output\(transform=\"pandas\"\).*list of strings"):
        column_names(None, 2, descriptions)


def test_a_list_of_descriptions_names_the_columns_of_an_array():
    assert column_names(None, 2, ["A", "B"]) == ["x0", "x1"]
    with pytest.raises(ValueError, match="3 items for 2 columns"):
        column_names(None, 2, ["A", "B", "C"])


def test_descriptions_are_written_on_request(loopback, llm):
    loopback.reply = constant("In\n years")
    names = [f"größe {i}" for i in range(150)]
    described = describe_features(llm, task=TASK, feature_names=names)
    assert described == dict.fromkeys(names, "In years")
    assert len(loopback.requests) == 2
    assert list(described) == features_to_score(None, described)
