package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// showSizes makes the files of the datastore as large as what the disks take there: a thin disk what it holds, a thick one all.
// layoutEx tells these sizes. They are holes: the content comes from elsewhere.
func (s *Site) showSizes(vm *simulator.VirtualMachine, guest *Guest) error {
	ctx := simulator.NewContext()
	ctx.Map = s.model.Map()
	for _, d := range guest.Disks {
		size := d.Capacity
		var stat syscall.Stat_t
		if err := syscall.Stat(d.Source, &stat); err == nil && !d.spec.Thick {
			size = min(size, stat.Blocks*512)
		}
		extent := strings.TrimSuffix(d.Files()[0], ".vmdk") + "-flat.vmdk"
		var p object.DatastorePath
		if !p.FromString(extent) {
			return fmt.Errorf("no datastore path: %s", extent)
		}
		for _, e := range ctx.Map.All("Datastore") {
			ds := e.(*simulator.Datastore)
			if !slices.Contains(vm.Datastore, ds.Self) || ds.Name != p.Datastore {
				continue
			}
			if err := os.Truncate(ds.Info.GetDatastoreInfo().Url+"/"+p.Path, size); err != nil {
				return err
			}
		}
		for i := range vm.LayoutEx.File {
			if vm.LayoutEx.File[i].Name == extent {
				vm.LayoutEx.File[i].Size = size
			}
		}
	}
	return nil
}

func over(raw json.RawMessage, to any) error {
	if len(raw) == 0 {
		return nil
	}
	return types.NewJSONDecoder(bytes.NewReader(raw)).Decode(to)
}

// override puts over a VM what the inventory file says in the API's own form.
func (s *Site) override(ctx context.Context, vm *simulator.VirtualMachine, guest *Guest, pool *object.ResourcePool, folder *object.Folder) error {
	spec := guest.Spec
	if err := over(spec.Config, vm.Config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if err := over(spec.Runtime, &vm.Runtime); err != nil {
		return fmt.Errorf("runtime: %w", err)
	}
	vm.DisabledMethod = append(vm.DisabledMethod, spec.Disabled...)
	for _, raw := range spec.Devices {
		var head struct {
			Key     int32           `json:"key"`
			Backing json.RawMessage `json:"backing"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		if d := object.VirtualDeviceList(vm.Config.Hardware.Device).FindByKey(head.Key); d != nil {
			if head.Backing != nil {
				d.GetVirtualDevice().Backing = nil // another one, not a change of the one that is
			}
			if err := over(raw, d); err != nil {
				return fmt.Errorf("device %d: %w", head.Key, err)
			}
			continue
		}
		var d types.BaseVirtualDevice
		if err := over(raw, &d); err != nil {
			return fmt.Errorf("device %d: %w", head.Key, err)
		}
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, d)
	}
	if spec.VApp == "" {
		return nil
	}
	return s.moveToVApp(ctx, vm, guest, pool, folder)
}

// moveToVApp shows the VM as vCenter shows those in a vApp: without a folder, reached through the vApp.
func (s *Site) moveToVApp(ctx context.Context, vm *simulator.VirtualMachine, guest *Guest, pool *object.ResourcePool, folder *object.Folder) error {
	made, err := pool.CreateVApp(ctx, guest.Spec.VApp, types.DefaultResourceConfigSpec(), types.VAppConfigSpec{}, folder)
	if err != nil {
		return err
	}
	sim := simulator.NewContext()
	sim.Map = s.model.Map()
	vapp, parent := sim.Map.Get(made.Reference()).(*simulator.VirtualApp), sim.Map.Get(folder.Reference()).(*simulator.Folder)
	ref := vapp.Reference()
	simulator.RemoveReference(&parent.ChildEntity, vm.Self)
	vapp.Vm = append(vapp.Vm, vm.Self)
	if vapp.ParentFolder == nil {
		at := folder.Reference()
		vapp.ParentFolder = &at
	}
	if !slices.Contains(parent.ChildEntity, ref) {
		parent.ChildEntity = append(parent.ChildEntity, ref)
	}
	vm.Parent, vm.ParentVApp = nil, &ref
	guest.Path = strings.TrimSuffix(guest.Path, guest.Spec.Name) + guest.Spec.VApp + "/" + guest.Spec.Name
	return nil
}

// takeOffline makes datastores inaccessible, once the VMs on them are made.
func (s *Site) takeOffline(names []string) {
	for _, e := range s.model.Map().All("Datastore") {
		ds := e.(*simulator.Datastore)
		if !slices.Contains(names, ds.Name) {
			continue
		}
		ds.Summary.Accessible = false
		for i := range ds.Host {
			ds.Host[i].MountInfo.Accessible = types.NewBool(false)
		}
	}
}
