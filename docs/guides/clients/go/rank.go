// Scores candidates by gRPC: rank HOST:PORT MODEL REQUEST.json PROTOSET
//
// The messages come from tf_serving.protoset, which `clickmill serve config` writes: no code is generated.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	deadline = time.Second
	service  = "/tensorflow.serving.PredictionService/"
	// Calls go round all servers of a name, and to another one where a server is just going.
	serviceConfig = `{
		"loadBalancingConfig": [{"round_robin": {}}],
		"methodConfig": [{
			"name": [{"service": "tensorflow.serving.PredictionService"}],
			"retryPolicy": {
				"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2,
				"retryableStatusCodes": ["UNAVAILABLE"]
			}
		}]
	}`
)

// Message is a message that is known by its descriptor; fields are named as in the .proto files.
type Message struct{ *dynamicpb.Message }

func (m Message) field(name string) protoreflect.FieldDescriptor {
	found := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if found == nil {
		log.Fatalf("%s has no field %s", m.Descriptor().FullName(), name)
	}
	return found
}

func (m Message) get(name string) protoreflect.Value { return m.Get(m.field(name)) }

func (m Message) set(name string, value any) { m.Set(m.field(name), protoreflect.ValueOf(value)) }

func (m Message) inner(name string) Message {
	return Message{m.Mutable(m.field(name)).Message().Interface().(*dynamicpb.Message)}
}

// entry is the message under a key of a map.
func (m Message) entry(name, key string) Message {
	at := protoreflect.ValueOfString(key).MapKey()
	return Message{m.Mutable(m.field(name)).Map().Mutable(at).Message().Interface().(*dynamicpb.Message)}
}

// Client is a connection and the messages of TensorFlow Serving.
type Client struct {
	connection *grpc.ClientConn
	files      *protoregistry.Files
}

func (c Client) message(name string) Message {
	found, err := c.files.FindDescriptorByName(protoreflect.FullName("tensorflow.serving." + name))
	check(err)
	return Message{dynamicpb.NewMessage(found.(protoreflect.MessageDescriptor))}
}

func (c Client) call(method string, request Message, answer string) Message {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	got := c.message(answer)
	check(c.connection.Invoke(ctx, service+method, request.Message, got.Message))
	return got
}

// inputTypes asks which tensors a signature takes; a service asks once, when it starts.
func (c Client) inputTypes(model, signature string) Message {
	request := c.message("GetModelMetadataRequest")
	request.inner("model_spec").set("name", model)
	request.inner("model_spec").set("version_label", "stable")
	request.Mutable(request.field("metadata_field")).List().Append(protoreflect.ValueOfString("signature_def"))
	packed := c.call("GetModelMetadata", request, "GetModelMetadataResponse").entry("metadata", "signature_def")
	signatures := c.message("SignatureDefMap")
	check(proto.Unmarshal(packed.get("value").Bytes(), signatures.Message))
	return signatures.entry("signature_def", signature)
}

// fill writes nested lists into a TensorProto; a float that is null is NaN.
func fill(tensor Message, dtype protoreflect.EnumNumber, values any) {
	tensor.set("dtype", dtype)
	dims := tensor.inner("tensor_shape")
	sizes := dims.Mutable(dims.field("dim")).List()
	for _, size := range shape(values) {
		dim := Message{sizes.AppendMutable().Message().Interface().(*dynamicpb.Message)}
		dim.set("size", size)
	}
	name := map[protoreflect.EnumNumber]string{
		1: "float_val", 2: "double_val", 3: "int_val", 7: "string_val", 9: "int64_val", 10: "bool_val",
	}[dtype]
	list := tensor.Mutable(tensor.field(name)).List()
	each(values, func(value any) { list.Append(protoreflect.ValueOf(convert(dtype, value))) })
}

func convert(dtype protoreflect.EnumNumber, value any) any {
	switch dtype {
	case 3, 9:
		found, err := value.(json.Number).Int64()
		check(err)
		if dtype == 3 {
			return int32(found)
		}
		return found
	case 7:
		return []byte(value.(string))
	case 10:
		return value.(bool)
	}
	found := math.NaN()
	if value != nil {
		var err error
		found, err = value.(json.Number).Float64()
		check(err)
	}
	if dtype == 1 {
		return float32(found)
	}
	return found
}

func shape(values any) []int64 {
	list, ok := values.([]any)
	if !ok {
		return nil
	}
	if len(list) == 0 {
		return []int64{0}
	}
	return append([]int64{int64(len(list))}, shape(list[0])...)
}

func each(values any, do func(any)) {
	if list, ok := values.([]any); ok {
		for _, inner := range list {
			each(inner, do)
		}
		return
	}
	do(values)
}

// floats reads a TensorProto of floats, in either of the two forms that servers answer in.
func floats(tensor Message) []float32 {
	found := []float32{}
	content := tensor.get("tensor_content").Bytes()
	for ; len(content) >= 4; content = content[4:] {
		found = append(found, math.Float32frombits(binary.LittleEndian.Uint32(content)))
	}
	list := tensor.get("float_val").List()
	for index := 0; index < list.Len(); index++ {
		found = append(found, float32(list.Get(index).Float()))
	}
	return found
}

func nested(values []float32, sizes []int) any {
	if len(sizes) == 0 {
		return values[0]
	}
	found := make([]any, sizes[0])
	for row := range found {
		step := len(values) / sizes[0]
		found[row] = nested(values[row*step:(row+1)*step], sizes[1:])
	}
	return found
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func load(path string) *protoregistry.Files {
	content, err := os.ReadFile(path)
	check(err)
	set := &descriptorpb.FileDescriptorSet{}
	check(proto.Unmarshal(content, set))
	files, err := protodesc.NewFiles(set)
	check(err)
	return files
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("rank HOST:PORT MODEL REQUEST.json PROTOSET")
	}
	connection, err := grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(serviceConfig))
	check(err)
	defer connection.Close()
	client, model := Client{connection, load(os.Args[4])}, os.Args[2]

	file, err := os.Open(os.Args[3])
	check(err)
	body := struct {
		Signature string         `json:"signature_name"`
		Inputs    map[string]any `json:"inputs"`
	}{Signature: "serving_default"}
	decoder := json.NewDecoder(file)
	decoder.UseNumber()
	check(decoder.Decode(&body))

	types := client.inputTypes(model, body.Signature)
	request := client.message("PredictRequest")
	spec := request.inner("model_spec")
	spec.set("name", model)
	spec.set("version_label", "stable")
	spec.set("signature_name", body.Signature)
	for name, values := range body.Inputs {
		fill(request.entry("inputs", name), types.entry("inputs", name).get("dtype").Enum(), values)
	}
	answer := client.call("Predict", request, "PredictResponse")
	score := answer.entry("outputs", "score")
	dims := score.inner("tensor_shape").get("dim").List()
	sizes := make([]int, dims.Len())
	for index := range sizes {
		sizes[index] = int(Message{dims.Get(index).Message().Interface().(*dynamicpb.Message)}.get("size").Int())
	}
	printed, err := json.Marshal(map[string]any{
		"version": answer.inner("model_spec").inner("version").get("value").Int(),
		"score":   nested(floats(score), sizes),
	})
	check(err)
	fmt.Println(string(printed))
}
