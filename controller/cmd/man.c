/* The manual page, from the tables. */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/options.h"

static const struct cmd_option flags[] = { OPTION_HELP, { 0 } };

static int run(int argc, char **argv);

const struct command command_man = {
	.name = "man",
	.run = run,
	.summary = "print the manual page",
	.arguments = "",
	.description = "Prints the manual page in the form that man(1) reads: vm-import-controller man >vm-import-controller.1",
	.options = flags,
};

/* Text as it is: what man(7) would take for markup is escaped. */
static void put(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\\')
			fputs("\\e", stdout);
		else if (text[i] == '-')
			fputs("\\-", stdout);
		else if (i == 0 && (text[i] == '.' || text[i] == '\''))
			printf("\\&%c", text[i]);
		else
			putchar(text[i]);
	}
}

static void put_paragraphs(const char *text)
{
	bool verbatim = false;

	while (text && *text) {
		size_t len = strcspn(text, "\n");
		bool now = len > 1 && !strncmp(text, "  ", 2);

		if (now && !verbatim)
			puts(".PP\n.nf");
		else if (!now)
			puts(verbatim ? ".fi\n.PP" : ".PP");
		put(text, len);
		putchar('\n');
		verbatim = now;
		text += len + (text[len] == '\n');
	}
	if (verbatim)
		puts(".fi");
}

static void put_command(const struct command *c)
{
	printf(".SS \"%s\"\n.B vm\\-import\\-controller %s\n[OPTION]...\n", c->name, c->name);
	if (*c->arguments) {
		put(c->arguments, strlen(c->arguments));
		putchar('\n');
	}
	put_paragraphs(c->description);
	for (const struct cmd_option *o = c->options; o->id; o++) {
		char forms[128];
		const char *start = forms;

		option_forms(o, forms, sizeof forms);
		start += strspn(start, " ");
		fputs(".TP\n\\fB", stdout);
		put(start, strlen(start));
		puts("\\fR");
		put(o->help, strlen(o->help));
		putchar('\n');
	}
	put_paragraphs(c->end);
}

/* Where machines come from: what names a place, and what its Secret holds. */
static const struct {
	const char *kind, *fields, *keys;
} sources[] = {
	{ "VmwareSource",
	  "vSphere. spec.endpoint: https://HOST/sdk of a vCenter or an ESXi host. spec.dc: the datacenter; may be empty where there is one only. In an "
	  "import, spec.virtualMachineName is a machine's name, folder/name, id (vm-123) or instance UUID, and spec.folder where to look for it.",
	  "username, password; caCert (PEM), or thumbprint (SHA-1 or SHA-256), or insecure (true). With none of these three, and no public authority to "
	  "vouch for it, the certificate that is seen first is the one that is trusted." },
	{ "OpenstackSource",
	  "OpenStack. spec.endpoint: Keystone, as https://HOST:5000/v3. spec.region. In an import, spec.virtualMachineName is a server's name or UUID.",
	  "username, password, project_name, domain_name, or application_credential_id and application_credential_secret; ca_cert (PEM)." },
	{ "OvaSource",
	  "An OVF package on a web server. spec.url: of an .ova, or of an .ovf with its files beside it. In an import, spec.virtualMachineName chooses one "
	  "of several virtual systems.",
	  "username, password, ca.crt (PEM); spec.credentials may be left away." },
};

static void put_sources(void)
{
	puts(".SH SOURCES\nAn import names its source in spec.sourceCluster, and the source names a Secret in spec.credentials.\n"
	     ".B kubectl explain\ntells all fields.");
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
		printf(".TP\n.B %s\n", sources[i].kind);
		put(sources[i].fields, strlen(sources[i].fields));
		puts("\n.br\nKeys of the Secret:");
		put(sources[i].keys, strlen(sources[i].keys));
		putchar('\n');
	}
}

static int run(int argc, char **argv)
{
	struct option_scan scan;

	option_scan_begin(&scan, &command_man, argc, argv);
	if (option_scan_next(&scan) < 0)
		return scan.exit_code;
	puts(".TH VM\\-IMPORT\\-CONTROLLER 1 \"" VIC_DATE "\" \"vm\\-import\\-controller " VIC_VERSION "\" \"User Commands\"\n"
	     ".SH NAME\nvm\\-import\\-controller \\- bring virtual machines into Harvester and KubeVirt\n.SH SYNOPSIS");
	for (const struct command *const *c = cmd_commands; *c; c++) {
		printf("%s.B vm\\-import\\-controller %s\n[OPTION]...\n", c == cmd_commands ? "" : ".br\n", (*c)->name);
		if (*(*c)->arguments) {
			put((*c)->arguments, strlen((*c)->arguments));
			putchar('\n');
		}
	}
	puts(".SH DESCRIPTION\n"
	     "Imports virtual machines from other platforms: it shuts a machine down, streams its disks while it converts them, and creates the\n"
	     "machine anew, driven by VirtualMachineImport objects. Without a command it is\n.BR run ,\nthe daemon.\n"
	     ".SH COMMANDS");
	for (const struct command *const *c = cmd_commands; *c; c++)
		put_command(*c);
	put_sources();
	puts(".SH ENVIRONMENT");
	for (const struct cmd_variable *v = cmd_variables; v->name; v++) {
		printf(".TP\n.B %s\n", v->name);
		put(v->help, strlen(v->help));
		putchar('\n');
	}
	puts(".SH EXIT STATUS\n0: done. 1: it failed, the reason is on standard error. 2: wrong usage. 130: interrupted.\n"
	     ".SH EXAMPLES\n.nf\n"
	     "vm\\-import\\-controller import \\-f manifests.yaml \\-o out\n"
	     "curl \\-s https://host/disk.vmdk | vm\\-import\\-controller convert \\- disk.raw\n"
	     ".fi\n.SH SEE ALSO\n.BR kubectl (1),\n.BR qemu\\-img (1)");
	return fflush(stdout) || ferror(stdout) ? EXIT_FAILED : EXIT_DONE;
}
