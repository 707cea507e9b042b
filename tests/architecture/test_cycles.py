"""No file of the package imports itself by way of others, not even inside a function."""

from tests.architecture.source import ROOT, imports, python_files


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph():
    """Module -> modules of the package that it imports, wherever in the file the import stands."""
    modules = {module_name(path): path for path in python_files("more4d")}
    graph = {}
    for module, path in modules.items():
        named = {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
        graph[module] = (named & modules.keys()) - {module, "more4d"}
    return graph


def reachable(graph, start):
    found, waiting = set(), list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(graph[module])
    return found


def test_no_file_imports_itself_by_way_of_others():
    graph = import_graph()
    assert [module for module in graph if module in reachable(graph, module)] == []


def test_the_graph_is_complete():
    graph = import_graph()
    assert "more4d.foundation.errors" in graph["more4d.files.atomic"]
