package player_test

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
)

// kubectl does what the plays of the scenarios have kubectl do in the second
// terminal, which nobody needs to have installed for the tests.
func kubectl(args []string) error {
	flags := (&cobra.Command{Use: "kubectl"}).Flags()
	config := genericclioptions.NewConfigFlags(false)
	config.AddFlags(flags)
	kind, patch := flags.String("type", "", ""), flags.StringP("patch", "p", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	words := flags.Args()
	if len(words) != 3 || words[0] != "patch" || *kind != "merge" {
		return fmt.Errorf("kubectl %s: this one knows patch TYPE NAME --type=merge only", strings.Join(args, " "))
	}
	return resource.NewBuilder(config).Unstructured().NamespaceParam(*config.Namespace).DefaultNamespace().
		ResourceNames(words[1], words[2]).SingleResourceType().
		Do().Visit(func(i *resource.Info, err error) error {
		if err == nil {
			_, err = resource.NewHelper(i.Client, i.Mapping).
				Patch(i.Namespace, i.Name, types.MergePatchType, []byte(*patch), nil)
		}
		return err
	})
}
