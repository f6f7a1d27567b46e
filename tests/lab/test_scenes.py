"""The demo's scenes, over both families, as tests."""

import pytest

import scenes


@pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
@pytest.mark.parametrize("function", scenes.SCENES,
                         ids=lambda function: function.__name__)
def test_scene(world, gate, function, family):
    # What a certificate of the wrong name, or a stop of five seconds, rightly
    # makes the daemon say.
    if function is scenes.wrong_name_is_refused:
        gate.expected += ["certificate"]
    if function is scenes.stopped_daemon_stops_no_mail:
        gate.expected += ["silent", "relay", "gate"]
    play = scenes.Play(function, world, gate, family).run()
    print(play.report())
    assert play.ok, play.report()
