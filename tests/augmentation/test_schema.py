import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skllmreg.augmentation._schema import MARGIN, MARGIN_ROWS, TableSchema
from skllmreg.utils._json import check_schema, is_closed
from skllmreg.utils._labels import is_missing
from skllmreg.utils._text import short_repr


def frame(n=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income\n(€)": np.round(rng.normal(40, 15, n), 2),
            "children": np.where(np.arange(n) % 5 == 0, np.nan, rng.integers(0, 4, n)),
            "member": rng.random(n) < 0.5,
            "city": rng.choice(["Oslo", "Rome", "Łódź"], n),
            "grade": pd.Categorical(rng.choice([1, 2, 3], n)),
            "note": [f"this is note number {i} of many" for i in range(n)],
        }
    )


@pytest.fixture
def schema():
    return TableSchema.from_frame(frame(), {"age": "in years"})


@pytest.fixture
def row(schema):
    return schema.rows(frame())[1]


def test_kinds_come_from_the_values(schema):
    assert {column.name: column.kind for column in schema.columns} == {
        "age": "integer",
        "income\n(€)": "number",
        "children": "integer",
        "member": "boolean",
        "city": "category",
        "grade": "category",
        "note": "text",
    }
    assert [column.may_miss for column in schema.columns] == [False, False, True, *[False] * 4]


def polars_frame():
    X = frame().drop(columns="grade")
    columns = {name: X[name].astype(object).tolist() for name in X}
    return pl.DataFrame(columns, strict=False).fill_nan(None)


@pytest.mark.parametrize(
    "X",
    [frame(), polars_frame(), frame().select_dtypes("number").to_numpy()],
    ids=["pandas", "polars", "numpy"],
)
def test_rows_make_the_same_table_again(X):
    schema = TableSchema.from_frame(X)
    rows = schema.rows(X)
    assert [schema.problem(row) for row in rows] == [""] * len(rows)
    again = schema.to_frame([schema.from_json(schema.to_json(row)) for row in rows])
    assert type(again) is type(X)
    if isinstance(X, np.ndarray):
        np.testing.assert_array_equal(again, X)
    else:
        assert again.equals(X)
        assert list(again.dtypes) == list(X.dtypes)
    assert schema.to_frame([]).shape == (0, X.shape[1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"age": 1000}, "age is 1000, not from"),
        ({"age": "40 years"}, "age is '40 years', not a finite integer"),
        ({"age": "40.5"}, "age is 40.5, not a finite integer"),
        ({"age": "1" * 400}, "not a finite integer"),
        ({"age": 40.5}, "not a finite integer"),
        ({"age": True}, "not a finite integer"),
        ({"age": None}, "age is missing"),
        ({"age": math.nan}, "age is missing"),
        ({"age": 10**400}, "not a finite integer"),
        ({"age": [40]}, "not a finite integer"),
        ({"age": -(10**5000)}, "not a finite integer"),
        ({"income\n(€)": math.inf}, "not a finite number"),
        ({"income\n(€)": {}}, "not a finite number"),
        ({"member": 1}, "member is 1, not true or false"),
        ({"member": "true"}, "not true or false"),
        ({"city": "Paris"}, "city is 'Paris', not one of its categories"),
        ({"city": ["Rome"]}, "not one of its categories"),
        ({"city": 10**5000}, "not one of its categories"),
        ({"grade": 4}, "grade is 4, not one"),
        ({"grade": "=1+1"}, "not one of its categories"),
        ({"note": "\u200b \x00"}, "note is '', not a text"),
        ({"note": 3}, "note is 3, not a text"),
        ({"extra": 1}, "'extra' is not a column"),
        ({5: 1}, "5 is not a column"),
    ],
    ids=short_repr,
)
def test_what_does_not_fit_is_named(schema, row, change, problem):
    assert schema.problem(row) == ""
    assert problem in schema.problem(schema.clean(row | change))


@pytest.mark.parametrize("row", [None, "a row", 3, [1, 2], math.nan, {}, set()])
def test_what_is_no_row_is_a_problem_and_no_error(schema, row):
    assert schema.problem(schema.clean(row))


def test_values_are_brought_into_their_one_form(schema, row):
    same = row | {
        "age": np.float64(row["age"]),
        "city": f" {row['city']}\u200b ",
        "grade": str(row["grade"]),
        "children": pd.NA,
        "member": np.bool_(row["member"]),
    }
    clean = schema.clean(same)
    assert schema.problem(clean) == ""
    assert clean == row | {"children": None}
    assert schema.clean(list(row.values())) == row


def test_the_margin_shrinks_as_rows_show_the_range():
    for n, share in ((10, MARGIN), (1000, MARGIN_ROWS / 1000)):
        X = np.linspace(-1, 1, n)[:, None]
        column = TableSchema.from_frame(X).columns[0]
        assert column.least == pytest.approx(-1 - 2 * share, abs=0.01)
        assert column.greatest == pytest.approx(1 + 2 * share, abs=0.01)


def test_numbers_that_are_never_negative_stay_so():
    assert TableSchema.from_frame(np.array([[0.2], [5.1]])).columns[0].least == 0
    assert TableSchema.from_frame(np.zeros((4, 1))).columns[0].greatest == 2
    codes = TableSchema.from_frame(np.arange(300)[:, None] % 7 + 1).columns[0]
    assert (codes.kind, codes.least, codes.greatest) == ("integer", 1, 7)


@pytest.mark.parametrize(
    ("X", "least", "greatest"),
    [
        (np.array([[100], [127], [90]], "i1"), 16, 127),
        (np.array([[-100], [127]], "i1"), -128, 127),
        (np.array([[0], [2**64 - 1]], "u8"), 0, 2**64 - 1),
        (np.array([[6e4], [1.5]], "f2"), 0, 65504),
        (np.array([[0.0], [6e307]]), 0, math.floor(np.finfo(float).max)),
        (pd.DataFrame({"a": pd.array([100, 127], dtype="Int8")}), 46, 127),
        (pl.DataFrame({"a": [100, 127]}, schema={"a": pl.Int8}), 46, 127),
    ],
)
def test_no_number_is_taken_that_the_type_of_the_column_cannot_hold(X, least, greatest):
    schema = TableSchema.from_frame(X)
    (column,) = schema.columns
    assert (column.least, column.greatest) == (least, greatest)
    rows = [{column.name: least}, {column.name: greatest}]
    assert [schema.problem(row) for row in rows] == ["", ""]
    assert schema.rows(schema.to_frame(rows)) == rows
    assert "not from" in schema.problem({column.name: greatest + 1})


@pytest.mark.parametrize("values", [[-1.7e308, 1.7e308], [0.1, -1.7e308], [5e-324, 1e-323]])
def test_the_largest_and_the_smallest_numbers_have_a_range(values):
    schema = TableSchema.from_frame(pd.DataFrame({"a": pd.Series(values, dtype=object)}))
    assert [schema.problem(schema.clean({"a": value})) for value in values] == ["", ""]


def test_a_text_longer_than_the_strings_of_an_array_is_kept_whole():
    X = np.array([["a short text of six words", "1"], ["another text of six words too", "2"]])
    row = {"x0": "a text that is much longer than the others in this array are", "x1": "1"}
    assert TableSchema.from_frame(X).to_frame([row])[0, 0] == row["x0"]


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_all_categories_that_the_type_declares_may_be_written_in_their_order(kind):
    levels = ["S", "M", "L", "XL"]
    if kind == "pandas":
        column = pd.Categorical(["S", "M"], categories=levels, ordered=True)
        X = pd.DataFrame({"size": column, "price": [1.5, 2.5]})
    else:
        column = pl.Series(["S", "M"], dtype=pl.Enum(levels))
        X = pl.DataFrame({"size": column, "price": [1.5, 2.5]})
    schema = TableSchema.from_frame(X)
    assert schema.describe().splitlines()[0] == '"size": one of "S", "M", "L", "XL"'
    assert schema.problem({"size": "XL", "price": 2.0}) == ""
    assert schema.to_frame([{"size": "XL", "price": 2.0}])["size"].dtype == X["size"].dtype


@pytest.mark.parametrize(("n", "kind"), [(9, "number"), (10, "integer")])
def test_few_whole_floats_are_no_sign_of_integers(n, kind):
    (column,) = TableSchema.from_frame(pd.DataFrame({"x": np.arange(float(n))})).columns
    assert column.kind == kind
    (column,) = TableSchema.from_frame(pd.DataFrame({"x": np.arange(n)})).columns
    assert column.kind == "integer"


@pytest.mark.parametrize("value", [20_088_272_374_988_798, -(2**53) - 1, 20_260_102])
def test_a_range_holds_and_tells_integers_of_any_size_exactly(value):
    (column,) = TableSchema.from_frame(pd.DataFrame({"x": [value, value]})).columns
    assert column.problem(value) == ""
    assert column.describe().startswith(f"integer from {column.least} to {column.greatest}")
    assert column.problem(10 * value).endswith(f"from {column.least} to {column.greatest}")


@given(
    st.lists(
        st.one_of(
            st.integers(-(10**20), 10**20),
            st.floats(allow_nan=True, allow_infinity=False),
            st.text(max_size=5),
            st.booleans(),
            st.none(),
        ),
        min_size=1,
        max_size=8,
    )
)
@example([1.797693134862316e305])
def test_any_column_is_learned_or_refused_and_its_rows_fit(values):
    X = pd.DataFrame({"x": pd.Series(values, dtype=object), "y": range(len(values))})
    if all(is_missing(value) for value in values):
        with pytest.raises(ValueError, match="Column 'x'.*no value"):
            TableSchema.from_frame(X)
        return
    if len({isinstance(value, str) for value in values if not is_missing(value)}) > 1:
        with pytest.raises(ValueError, match="Column 'x'.*texts beside other values"):
            TableSchema.from_frame(X)
        return
    schema = TableSchema.from_frame(X)
    check_schema(schema.json_schema())
    if schema.columns[0].kind in ("integer", "number", "boolean"):
        assert [schema.problem(row) for row in schema.rows(X)] == [""] * len(values)


def test_the_schema_of_an_answer_is_closed_where_no_value_may_miss(schema):
    check_schema(schema.json_schema())
    assert not is_closed(schema.json_schema())
    assert is_closed(TableSchema.from_frame(frame().drop(columns="children")).json_schema())


def test_the_prompt_tells_ranges_categories_and_descriptions(schema):
    lines = schema.describe().splitlines()
    assert lines[0].startswith('"age": integer from ')
    assert lines[0].endswith("; in years")
    assert '"feature_2" stands for "income (€)": number from' in lines[1]
    assert "leave it out where the value is not known" in lines[2]
    assert lines[4] == '"city": one of "Oslo", "Rome", "Łódź"'


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"a": [None, None]}), "holds no value"),
        (pd.DataFrame({"a": [np.inf]}), "no finite number"),
        (pd.DataFrame({"a": pd.to_datetime(["2024-01-01"])}), "dates or times"),
        (pd.DataFrame({"a": pd.period_range("2024-01", periods=2, freq="M")}), "'a'.*Period"),
        (pd.DataFrame({"a": pd.interval_range(0, 2)}), "'a'.*Interval"),
        (pd.DataFrame({"a": [b"x", b"y"]}), "'a' of X holds b'x'"),
        (pd.DataFrame({"a": [[1], [2]]}), "'a'.*numbers or texts"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "same name"),
        (pd.DataFrame([[1, 2]], columns=[["a", "a"], ["b", "c"]]), "several levels"),
        (pd.DataFrame({"a": [1, "one", 2.5]}), "'a'.*texts beside other values, 1 and 'one'"),
    ],
)
def test_columns_that_cannot_be_written_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        TableSchema.from_frame(X)


def test_a_description_of_no_column_is_an_error():
    with pytest.raises(ValueError, match="'agee', which is not a column"):
        TableSchema.from_frame(frame(), {"agee": "in years"})
