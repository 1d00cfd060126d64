package sim

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// runServices keeps one EndpointSlice for every Service that selects pods.
func (c *Cluster) runServices(namespace string) error {
	services := c.list(Services, namespace)
	if len(services) == 0 {
		return nil // as in most namespaces of a large cluster
	}
	pods := c.list(Pods, namespace)
	existing := c.list(EndpointSlices, namespace)
	for i := range services {
		service := &services[i]
		selector, _, _ := unstructured.NestedStringMap(service.Object, "spec", "selector")
		if len(selector) == 0 {
			continue
		}
		var slice *unstructured.Unstructured
		for j := range existing {
			if metav1.IsControlledBy(&existing[j], service) {
				slice = &existing[j]
			}
		}
		endpoints := endpointsOf(labels.Set(selector).AsSelector(), pods)
		var err error
		if slice == nil {
			_, err = c.create(c.kindOf(EndpointSlices), newSlice(service, endpoints), false)
		} else {
			err = c.edit(slice, func(m map[string]any) { m["endpoints"] = endpoints })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func endpointsOf(sel labels.Selector, pods []unstructured.Unstructured) []any {
	endpoints := []any{}
	for i := range pods {
		pod := &pods[i]
		ip, _, _ := unstructured.NestedString(pod.Object, "status", "podIP")
		node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
		if ip == "" || phase(pod) != string(corev1.PodRunning) || !sel.Matches(labels.Set(pod.GetLabels())) {
			continue
		}
		endpoints = append(endpoints, map[string]any{"addresses": []any{ip}, "nodeName": node,
			"conditions": map[string]any{"ready": true, "serving": true, "terminating": false},
			"targetRef": map[string]any{"kind": "Pod", "namespace": pod.GetNamespace(), "name": pod.GetName(),
				"uid": string(pod.GetUID())}})
	}
	return endpoints
}

func newSlice(service *unstructured.Unstructured, endpoints []any) *unstructured.Unstructured {
	var ports []any
	of, _, _ := unstructured.NestedSlice(service.Object, "spec", "ports")
	for _, raw := range of {
		p, _ := raw.(map[string]any)
		ports = append(ports, map[string]any{"name": p["name"], "port": p["port"], "protocol": "TCP"})
	}
	slice := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "discovery.k8s.io/v1",
		"kind":        "EndpointSlice",
		"addressType": "IPv4", "endpoints": endpoints, "ports": ports}}
	slice.SetNamespace(service.GetNamespace())
	slice.SetGenerateName(service.GetName() + "-")
	slice.SetLabels(map[string]string{"kubernetes.io/service-name": service.GetName(),
		"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
	slice.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(service, service.GroupVersionKind())})
	return slice
}

// RunCronJob starts a Job of a CronJob as its schedule would, unless it is
// suspended, and returns the Job's name.
func (c *Cluster) RunCronJob(namespace, name string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cron, err := c.get(CronJobs, namespace, name)
	if err != nil {
		return "", err
	}
	if suspended, _, _ := unstructured.NestedBool(cron.Object, "spec", "suspend"); suspended {
		return "", fmt.Errorf("CronJob %s/%s is suspended", namespace, name)
	}
	template, _, _ := unstructured.NestedMap(cron.Object, "spec", "jobTemplate")
	job := &unstructured.Unstructured{Object: template}
	job.SetAPIVersion("batch/v1")
	job.SetKind("Job")
	job.SetNamespace(namespace)
	job.SetGenerateName(name + "-")
	job.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(cron, cron.GroupVersionKind())})
	created, err := c.create(c.kindOf(Jobs), job, false)
	if err != nil {
		return "", err
	}
	return created.GetName(), c.settle(namespace)
}
