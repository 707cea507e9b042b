from more4d.cli.main import main


def test_a_configuration_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["train", "--config", str(tmp_path / "nowhere.yaml")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "nowhere.yaml" in err and err.count("\n") == 1


def test_an_unknown_option_of_a_task_is_refused(tmp_path, capsys):
    config = tmp_path / "text.yaml"
    config.write_text("task: text\nexport: x\nloop: {steps: 1, batch_size: 1, learning_rat: 1}\n")
    assert main(["train", "--config", str(config), "--output", str(tmp_path / "run")]) == 1
    assert "did you mean 'learning_rate'" in capsys.readouterr().err
