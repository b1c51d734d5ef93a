"""Lets the real SGLang server run on a machine without CUDA: put this directory on its ``PYTHONPATH``.

SGLang's wheel is for CUDA and imports its kernels wherever they might be used. On a CPU they are never called:
attention, sampling and all other operators are torch's own (``--device cpu --attention-backend torch_native
--sampling-backend pytorch``). So the modules that ``.ci/install-engine`` leaves out become placeholders: importing them
and taking attributes works, calling anything in them raises. Their distributions are made up too, because SGLang
compares their versions with those that it wants. A really installed package wins, because the finder is appended.
"""

import email.message
import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
import types

#: Modules, and the versions of their distributions that SGLang 0.5.23 asks for.
PLACEHOLDERS = {"torchvision": ("torchvision", "0.28.0"), "sgl_kernel": ("sglang-kernel", "0.4.10")}


class _Attributes(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Base(metaclass=_Attributes):
    pass


class Placeholder(types.ModuleType):
    """A module whose attributes are placeholders too; classes, where their names look like one's."""

    def __init__(self, name):
        super().__init__(name)
        self.__path__, self.__file__, self.__package__ = [], __file__, name
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if name[:1].isupper() and not name.isupper():
            value = _Attributes(name, (_Base,), {})
        else:
            full = f"{self.__name__}.{name}"
            value = sys.modules.get(full) or Placeholder(full)
        setattr(self, name, value)
        return value

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and callable(args[0]) and not kwargs:  # used as a decorator
            return args[0]
        raise NotImplementedError(f"{self.__name__} needs CUDA")


class Made(importlib.metadata.Distribution):
    """A distribution of which there is nothing but a name and a version."""

    def __init__(self, name, version):
        self._metadata = email.message.Message()
        self._metadata["Name"], self._metadata["Version"] = name, version

    @property
    def metadata(self):
        return self._metadata

    def read_text(self, filename):
        return None

    def locate_file(self, path):
        raise FileNotFoundError(path)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds placeholders and their distributions."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in PLACEHOLDERS:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def find_distributions(self, context):
        wanted = context.name and context.name.lower().replace("_", "-")
        return [Made(name, version) for name, version in PLACEHOLDERS.values() if wanted in (None, name)]

    def create_module(self, spec):
        return Placeholder(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.append(Finder())
