"""A teacher's predictions on a disk: written once, and learned from without the teacher."""

from entrenar_core.distill.cache.expected import FromCache as FromCache
from entrenar_core.distill.cache.fidelity import Fidelity as Fidelity
from entrenar_core.distill.cache.fidelity import fidelity as fidelity
from entrenar_core.distill.cache.folder import CacheFolder as CacheFolder
from entrenar_core.distill.cache.keys import Keys as Keys
from entrenar_core.distill.cache.settings import Settings as Settings
from entrenar_core.distill.cache.teacher import CachedTeacher as CachedTeacher
from entrenar_core.distill.cache.writer import CacheWriter as CacheWriter
