"""Tabs 2 to 4 of the explorer: prototypes, what if, latent map."""

from insightr_nb.explorer import app as explorer


def test_what_if_changes_and_reset(copied):
    app = explorer.Explorer()
    app.tabs.selected_index = 2
    tab = app.tabs.children[2]
    before = tab.table.value
    tab.off.value = (0, 1)
    assert tab.table.value != before
    tab.all_off.click()
    assert "switched off" in tab.message.value
    tab.reset.click()
    assert (tab.table.value, tab.message.value) == (before, "")
    tab.prototype.value, tab.label.value = 3, 4.0
    tab.set_label.click()
    assert tab.table.value != before
    assert "→ 4.00" in tab.changes.value
    tab.reset.click()
    tab.set_label.click()  # as it is shown, rounded: no change
    assert (tab.table.value, tab.changes.value) == (before, "")
    tab.label.value = 99.0
    tab.set_label.click()
    assert "label 99: must be from -0.90 to 4.90" in tab.message.value
    assert tab.table.value == before


def test_latent_map_opens_the_chosen_prototype(copied):
    app = explorer.Explorer()
    app.tabs.selected_index = 3
    tab = app.tabs.children[3]
    tab.slider.value = 4
    tab.look.click()
    assert app.tabs.selected_index == 1
    assert f"prototype <b>{tab.chosen}</b>" in app.tabs.children[1].headline.value
