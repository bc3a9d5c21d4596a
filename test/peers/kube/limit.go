package main

import (
	"log"
	"os"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

const cgroups = "/sys/fs/cgroup"

// limit puts a process into a control group of its own with a container's
// limits of CPU and memory, where this machine has control groups of version 1.
func limit(pid int, name string, limits corev1.ResourceList) {
	set := func(controller, file string, value int64) {
		dir := filepath.Join(cgroups, controller, "kubepeer-"+name)
		if _, err := os.Stat(filepath.Join(cgroups, controller, "cgroup.procs")); err != nil {
			log.Printf("no limit of %s: %v", controller, err)
			return
		}
		os.Mkdir(dir, 0o755)
		for _, f := range []struct {
			name  string
			value int64
		}{{file, value}, {"cgroup.procs", int64(pid)}} {
			if err := os.WriteFile(filepath.Join(dir, f.name), []byte(strconv.FormatInt(f.value, 10)), 0o644); err != nil {
				log.Printf("no limit of %s: %v", controller, err)
			}
		}
	}
	if cpu, ok := limits[corev1.ResourceCPU]; ok {
		set("cpu", "cpu.cfs_quota_us", cpu.MilliValue()*100) // of a period of 100 ms
	}
	if memory, ok := limits[corev1.ResourceMemory]; ok {
		set("memory", "memory.limit_in_bytes", memory.Value())
	}
}

// unlimit removes what limit made; the processes are gone.
func unlimit(pod *corev1.Pod) {
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		for _, controller := range []string{"cpu", "memory"} {
			os.Remove(filepath.Join(cgroups, controller, "kubepeer-"+string(pod.UID)+"-"+c.Name))
		}
	}
}
