"""CloudWatch gets the counts since the last line."""

import json

from absa.adapters.cloudwatch import metric_line
from serving.observe.published import Published
from serving.observe.replica_metrics import Status


def test_counters_become_what_came_since_the_last_line() -> None:
    published = Published()
    first = Status(worker="0", outcomes=[["1", "champion", 90, 0, 10, 0, 1.0, []]])
    later = Status(worker="0", outcomes=[["1", "champion", 95, 1, 14, 0, 1.0, []]])
    assert published.values([first])["Requests"] == 100
    values = published.values([later, Status(worker="parent", gauges={"log_lag_seconds": 7.0})])
    assert (values["Requests"], values["Shed"], values["LogLag"]) == (10, 4, 7.0)


def test_a_line_has_the_form_that_cloudwatch_reads() -> None:
    line = json.loads(metric_line("router", {"Shed": 4.0}, at_s=1.5))
    (described,) = line["_aws"]["CloudWatchMetrics"]
    assert (described["Namespace"], described["Dimensions"]) == ("Evergreen", [["Service"]])
    fine = json.loads(metric_line("router", {"Shed": 4.0}, fine=True))["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    assert (described["Metrics"], fine) == ([{"Name": "Shed"}], [{"Name": "Shed", "StorageResolution": 1}])
    assert (line["Service"], line["Shed"], line["_aws"]["Timestamp"]) == ("router", 4.0, 1500)
