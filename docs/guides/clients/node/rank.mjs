// Scores candidates by gRPC: node rank.mjs HOST:PORT MODEL REQUEST.json PROTOSET
// The messages come from `tf_serving.protoset`, which `clickmill serve config` writes.

import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const DEADLINE_MS = 1000;
// Calls go round all servers of a name, and to another one where a server is just going.
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [{
    name: [{ service: 'tensorflow.serving.PredictionService' }],
    retryPolicy: {
      maxAttempts: 3,
      initialBackoff: '0.01s',
      maxBackoff: '0.1s',
      backoffMultiplier: 2,
      retryableStatusCodes: ['UNAVAILABLE'],
    },
  }],
};
// Of a tensor: the field of its values, and how one of them is made of JSON. A float that is null is NaN.
const number = (value) => (value === null ? NaN : value);
const KINDS = {
  DT_FLOAT: ['float_val', number],
  DT_DOUBLE: ['double_val', number],
  DT_INT32: ['int_val', (value) => value],
  DT_INT64: ['int64_val', String], // as text: a number of JavaScript is exact up to 2^53 alone
  DT_STRING: ['string_val', (value) => Buffer.from(value)],
  DT_BOOL: ['bool_val', (value) => value],
};

function shapeOf(values) {
  return Array.isArray(values) ? [values.length, ...(values.length ? shapeOf(values[0]) : [])] : [];
}

function tensor(dtype, values) {
  const [field, convert] = KINDS[dtype];
  const flat = Array.isArray(values) ? values.flat(Infinity) : [values];
  return {
    dtype,
    tensor_shape: { dim: shapeOf(values).map((size) => ({ size })) },
    [field]: flat.map(convert),
  };
}

// The values of a tensor of floats, in either of the two forms that servers answer in.
function floats(answer) {
  const content = answer.tensor_content;
  if (!content.length) return answer.float_val;
  return Array.from({ length: content.length / 4 }, (_, index) => content.readFloatLE(4 * index));
}

function nested(values, [size, ...inner]) {
  if (size === undefined) return values[0];
  const step = values.length / size || 0;
  return Array.from({ length: size }, (_, row) => nested(values.slice(row * step, (row + 1) * step), inner));
}

// From a set of descriptors, proto-loader makes of a map what it is on the wire: a list of keys and values.
const toEntries = (object) => Object.entries(object).map(([key, value]) => ({ key, value }));
const fromEntries = (entries) => Object.fromEntries(entries.map(({ key, value }) => [key, value]));

const [address, model, path, protoset] = process.argv.slice(2);
const definition = protoLoader.loadFileDescriptorSetFromBuffer(readFileSync(protoset), {
  keepCase: true, longs: String, enums: String, defaults: true,
});
const { PredictionService } = grpc.loadPackageDefinition(definition).tensorflow.serving;
const client = new PredictionService(address, grpc.credentials.createInsecure(), {
  'grpc.service_config': JSON.stringify(SERVICE_CONFIG),
});

function call(method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_MS;
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

const body = JSON.parse(readFileSync(path, 'utf8'));
const signature = body.signature_name ?? 'serving_default';
const spec = { name: model, version_label: 'stable' };

// Which tensors the signature takes; a service asks once, when it starts.
const metadata = await call('GetModelMetadata', { model_spec: spec, metadata_field: ['signature_def'] });
const packed = fromEntries(metadata.metadata).signature_def.value;
const signatures = definition['tensorflow.serving.SignatureDefMap'].deserialize(packed);
const types = fromEntries(fromEntries(signatures.signature_def)[signature].inputs);

const inputs = {};
for (const [name, values] of Object.entries(body.inputs)) inputs[name] = tensor(types[name].dtype, values);
const modelSpec = { ...spec, signature_name: signature };
const answer = await call('Predict', { model_spec: modelSpec, inputs: toEntries(inputs) });
const { score } = fromEntries(answer.outputs);
const shape = score.tensor_shape.dim.map(({ size }) => Number(size));
console.log(JSON.stringify({ version: Number(answer.model_spec.version.value), score: nested(floats(score), shape) }));
client.close();
