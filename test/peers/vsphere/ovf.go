package main

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ovfMethods describes a machine as vCenter does: processors, memory, firmware, controllers, disks and network cards, in the sections, names
// and units that its exports have. MAC addresses are left out there, too.
type ovfMethods struct{ Self types.ManagedObjectReference }

func (m *ovfMethods) Reference() types.ManagedObjectReference { return m.Self }

const ovfHead = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope vmw:buildId="build-00000000" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
`

// ovfText is the descriptor that is being written.
type ovfText struct {
	strings.Builder
	id int // of the item that was written last
}

func escaped(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return b.String()
}

// item writes one device; fields are pairs of a name and a value, in the order of their names. It returns the item's InstanceID.
func (d *ovfText) item(after string, fields ...any) int {
	d.id++
	d.WriteString("      <Item>\n")
	done := false
	for i := 0; i < len(fields); i += 2 {
		name := fields[i].(string)
		if !done && name > "InstanceID" {
			fmt.Fprintf(d, "        <rasd:InstanceID>%d</rasd:InstanceID>\n", d.id)
			done = true
		}
		fmt.Fprintf(d, "        <rasd:%s>%s</rasd:%s>\n", name, escaped(fmt.Sprint(fields[i+1])), name)
	}
	d.WriteString(after + "      </Item>\n")
	return d.id
}

// controllerOf tells how a descriptor names a controller: its ResourceType and ResourceSubType, and its bus number. Type 0: it is none.
func controllerOf(device types.BaseVirtualDevice) (kind int, subtype string, bus int32) {
	switch c := device.(type) {
	case *types.VirtualIDEController:
		return 5, "", c.BusNumber
	case *types.ParaVirtualSCSIController:
		return 6, "VirtualSCSI", c.BusNumber
	case *types.VirtualLsiLogicController:
		return 6, "lsilogic", c.BusNumber
	case *types.VirtualLsiLogicSASController:
		return 6, "lsilogicsas", c.BusNumber
	case *types.VirtualBusLogicController:
		return 6, "buslogic", c.BusNumber
	case *types.VirtualAHCIController:
		return 20, "vmware.sata.ahci", c.BusNumber
	case *types.VirtualNVMEController:
		return 20, "vmware.nvme.controller", c.BusNumber
	case *types.VirtualUSBController:
		return 23, "vmware.usb.ehci", c.BusNumber
	}
	return 0, "", 0
}

// fileOf finds the exported file of a disk: clients name files by the lease's device keys, "/vm-1/ParaVirtualSCSIController0:2".
func fileOf(files []types.OvfFile, controller types.BaseVirtualDevice, bus, unit int32) int {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", controller), "*types.")
	for i, f := range files {
		if strings.HasSuffix(f.DeviceId, fmt.Sprintf("/%s%d:%d", kind, bus, unit)) {
			return i
		}
	}
	return -1
}

func (d *ovfText) hardware(vm *simulator.VirtualMachine, files []types.OvfFile, networks []string) {
	config := vm.Config
	fmt.Fprintf(d, "    <VirtualHardwareSection>\n      <Info>Virtual hardware requirements</Info>\n      <System>\n        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n        <vssd:InstanceID>0</vssd:InstanceID>\n        <vssd:VirtualSystemIdentifier>%s</vssd:VirtualSystemIdentifier>\n        <vssd:VirtualSystemType>%s</vssd:VirtualSystemType>\n      </System>\n",
		escaped(config.Name), escaped(config.Version))
	cores := ""
	if n := config.Hardware.NumCoresPerSocket; n != nil && *n > 1 {
		cores = fmt.Sprintf("        <vmw:CoresPerSocket ovf:required=\"false\">%d</vmw:CoresPerSocket>\n", *n)
	}
	d.item(cores, "AllocationUnits", "hertz * 10^6", "Description", "Number of Virtual CPUs", "ElementName", fmt.Sprintf("%d virtual CPU(s)", config.Hardware.NumCPU),
		"ResourceType", 3, "VirtualQuantity", config.Hardware.NumCPU)
	d.item("", "AllocationUnits", "byte * 2^20", "Description", "Memory Size", "ElementName", fmt.Sprintf("%dMB of memory", config.Hardware.MemoryMB),
		"ResourceType", 4, "VirtualQuantity", config.Hardware.MemoryMB)
	ids, devices := map[int32]int{}, map[int32]types.BaseVirtualDevice{}
	for _, device := range config.Hardware.Device {
		kind, subtype, bus := controllerOf(device)
		if kind == 0 {
			continue
		}
		fields := []any{"Address", bus, "Description", "Controller", "ElementName", fmt.Sprintf("Controller %d", bus)}
		if subtype != "" {
			fields = append(fields, "ResourceSubType", subtype)
		}
		key := device.GetVirtualDevice().Key
		ids[key], devices[key] = d.item("", append(fields, "ResourceType", kind)...), device
	}
	disks, cards := 0, 0
	for _, device := range config.Hardware.Device {
		v := device.GetVirtualDevice()
		if disk, ok := device.(*types.VirtualDisk); ok {
			_, _, bus := controllerOf(devices[v.ControllerKey])
			if fileOf(files, devices[v.ControllerKey], bus, *v.UnitNumber) < 0 {
				continue
			}
			disks++
			d.item("", "AddressOnParent", *disk.UnitNumber, "ElementName", v.DeviceInfo.GetDescription().Label, "HostResource", fmt.Sprintf("ovf:/disk/vmdisk%d", disks),
				"Parent", ids[v.ControllerKey], "ResourceType", 17)
		}
		if _, ok := device.(*types.VirtualTPM); ok {
			d.item("", "AutomaticAllocation", false, "ElementName", "Virtual TPM", "ResourceSubType", "vmware.vtpm", "ResourceType", 1)
		}
		if _, ok := device.(types.BaseVirtualEthernetCard); ok {
			subtype := map[string]string{"VirtualE1000": "E1000", "VirtualE1000e": "E1000e", "VirtualPCNet32": "PCNet32", "VirtualVmxnet2": "VmxNet2",
				"VirtualVmxnet3": "VmxNet3"}[strings.TrimPrefix(fmt.Sprintf("%T", device), "*types.")]
			d.item("", "AddressOnParent", 7+cards, "AutomaticAllocation", true, "Connection", networks[cards], "ElementName", v.DeviceInfo.GetDescription().Label,
				"ResourceSubType", subtype, "ResourceType", 10)
			cards++
		}
	}
	fmt.Fprintf(d, "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"%s\"/>\n", config.Firmware)
	if o := config.BootOptions; o != nil && o.EfiSecureBootEnabled != nil && *o.EfiSecureBootEnabled {
		d.WriteString("      <vmw:Config ovf:required=\"false\" vmw:key=\"bootOptions.efiSecureBootEnabled\" vmw:value=\"true\"/>\n")
	}
	d.WriteString("    </VirtualHardwareSection>\n")
}

// networksOf are the names of the networks that a machine's cards are on, in their order.
func networksOf(ctx *simulator.Context, vm *simulator.VirtualMachine) (names []string) {
	for _, device := range vm.Config.Hardware.Device {
		if _, ok := device.(types.BaseVirtualEthernetCard); !ok {
			continue
		}
		name := ""
		switch b := device.GetVirtualDevice().Backing.(type) {
		case *types.VirtualEthernetCardNetworkBackingInfo:
			name = b.DeviceName
		case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
			if group, ok := ctx.Map.Get(types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: b.Port.PortgroupKey}).(*simulator.DistributedVirtualPortgroup); ok {
				name = group.Name
			}
		}
		names = append(names, name)
	}
	return
}

func (m *ovfMethods) CreateDescriptor(ctx *simulator.Context, req *types.CreateDescriptor) soap.HasFault {
	vm, ok := ctx.Map.Get(req.Obj).(*simulator.VirtualMachine)
	if !ok {
		return &methods.CreateDescriptorBody{Fault_: simulator.Fault("no such machine", &types.ManagedObjectNotFound{Obj: req.Obj})}
	}
	var d ovfText
	ctx.WithLock(vm, func() {
		files, networks := req.Cdp.OvfFiles, networksOf(ctx, vm)
		d.WriteString(ovfHead + "  <References>\n")
		for i, f := range files {
			fmt.Fprintf(&d, "    <File ovf:href=\"%s\" ovf:id=\"file%d\" ovf:size=\"%d\"/>\n", escaped(f.Path), i+1, f.Size)
		}
		d.WriteString("  </References>\n  <DiskSection>\n    <Info>Virtual disk information</Info>\n")
		disks := 0
		for _, device := range vm.Config.Hardware.Device {
			disk, ok := device.(*types.VirtualDisk)
			if !ok {
				continue
			}
			for _, c := range vm.Config.Hardware.Device {
				kind, _, bus := controllerOf(c)
				if kind == 0 || c.GetVirtualDevice().Key != disk.ControllerKey {
					continue
				}
				if i := fileOf(files, c, bus, *disk.UnitNumber); i >= 0 {
					disks++
					fmt.Fprintf(&d, "    <Disk ovf:capacity=\"%d\" ovf:capacityAllocationUnits=\"byte\" ovf:diskId=\"vmdisk%d\" ovf:fileRef=\"file%d\" ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\" ovf:populatedSize=\"%d\"/>\n",
						disk.CapacityInBytes, disks, i+1, files[i].Size)
				}
			}
		}
		d.WriteString("  </DiskSection>\n  <NetworkSection>\n    <Info>The list of logical networks</Info>\n")
		seen := map[string]bool{}
		for _, name := range networks {
			if !seen[name] {
				fmt.Fprintf(&d, "    <Network ovf:name=\"%s\">\n      <Description>The %s network</Description>\n    </Network>\n", escaped(name), escaped(name))
			}
			seen[name] = true
		}
		fmt.Fprintf(&d, "  </NetworkSection>\n  <VirtualSystem ovf:id=\"%s\">\n    <Info>A virtual machine</Info>\n    <Name>%s</Name>\n    <OperatingSystemSection ovf:id=\"1\" vmw:osType=\"%s\">\n      <Info>The kind of installed guest operating system</Info>\n    </OperatingSystemSection>\n",
			escaped(req.Cdp.Name), escaped(vm.Name), escaped(vm.Config.GuestId))
		d.hardware(vm, files, networks)
		if vm.Config.Annotation != "" {
			fmt.Fprintf(&d, "    <AnnotationSection ovf:required=\"false\">\n      <Info>A human-readable annotation</Info>\n      <Annotation>%s</Annotation>\n    </AnnotationSection>\n", escaped(vm.Config.Annotation))
		}
		d.WriteString("  </VirtualSystem>\n</Envelope>\n")
	})
	return &methods.CreateDescriptorBody{Res: &types.CreateDescriptorResponse{Returnval: types.OvfCreateDescriptorResult{OvfDescriptor: d.String()}}}
}
