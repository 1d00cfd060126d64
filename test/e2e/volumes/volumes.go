// Package volumes gives the test node's pods disks that outlive them.
//
// It stands for a storage provisioner: for every claim of its storage class it
// makes a folder, and a PersistentVolume that is that folder.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Class is the name of the storage class, which is the cluster's default.
const Class = "irctl-e2e"

// every is how often it looks for claims.
const every = 100 * time.Millisecond

// Define makes the storage class.
func Define(ctx context.Context, client kubernetes.Interface) error {
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: Class,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "irctl.test/folder",
	}
	if _, err := client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil &&
		!apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("define storage class: %w", err)
	}
	return nil
}

// Run provides for all claims with folders in dir, until ctx is done.
func Run(ctx context.Context, client kubernetes.Interface, dir string, log io.Writer) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := errors.Join(provide(ctx, client, dir), clear(ctx, client)); err != nil && ctx.Err() == nil {
			fmt.Fprintln(log, "volumes:", err)
		}
	}
}

func provide(ctx context.Context, client kubernetes.Interface, dir string) error {
	claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for _, claim := range claims.Items {
		if claim.Status.Phase != corev1.ClaimPending || claim.Spec.VolumeName != "" ||
			claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != Class {
			continue
		}
		errs = append(errs, volumeFor(ctx, client, &claim, filepath.Join(dir, string(claim.UID))))
	}
	return errors.Join(errs...)
}

func volumeFor(ctx context.Context, client kubernetes.Interface, claim *corev1.PersistentVolumeClaim,
	folder string) error {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	// Whatever user the pod has: a folder is not given to its fsGroup.
	if err := os.Chmod(folder, 0o777); err != nil {
		return err
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pvc-" + string(claim.UID)},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain, // clear sees to it
			StorageClassName:              Class,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: folder}},
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
		},
	}
	if _, err := client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil &&
		!apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// clear removes the volumes whose claims are gone.
func clear(ctx context.Context, client kubernetes.Interface) error {
	list, err := client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for _, volume := range list.Items {
		if volume.Spec.StorageClassName != Class || volume.Spec.HostPath == nil ||
			volume.Status.Phase != corev1.VolumeReleased {
			continue
		}
		if err := client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{}); err != nil &&
			!apierrors.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, os.RemoveAll(volume.Spec.HostPath.Path))
	}
	return errors.Join(errs...)
}
