"""Workers as pods: what a pod is (pod), how it ends (outcomes), what is seen of all (stream), and the launcher over them."""

from __future__ import annotations

from tasks.launchers.kubernetes.launcher import KubernetesLauncher

__all__ = ["KubernetesLauncher"]
