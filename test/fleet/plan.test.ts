import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { parseOptions } from '../../engine/options.ts'
import { Instance } from '../../src/fleet/instance.ts'
import { listWishes } from '../../src/fleet/plan.ts'
import { Registry } from '../../src/fleet/registry.ts'
import { Connections } from '../../src/fleet/transport.ts'
import { makeConfig } from '../helpers/gateway.ts'

const plan = async (tree: Record<string, unknown>, env = {}) => {
  const config = await makeConfig(tree, env)
  const models = config.models.map((model) => ({ config: model, path: '/models/x.gguf' }))
  return listWishes({ models, upstreams: config.upstreams, config }, { cores: 8, env })
}

test('a local model becomes as many instances as it says, whose flags the engine understands', async () => {
  const wishes = await plan({
    models: [
      { name: 'x', source: 'tiny', instances: 3, parallel: 4, waitingMax: 5, contextTokens: 99, weight: 2 },
    ],
    server: { bodyBytesMax: 2048, jsonDepthMax: 9 },
  })
  assert.deepEqual(
    wishes.map(({ spec }) => [spec.id, spec.inFlightMax, spec.weight]),
    [0, 1, 2].map((index) => [`x-${index}`, 9, 2]),
  )
  const options = parseOptions([...(wishes[0]?.engineArgs ?? []), '--socket', '/tmp/s'])
  assert.deepEqual(
    [options?.name, options?.parallel, options?.waitingMax, options?.contextTokens, options?.threads],
    ['x', 4, 5, 99, 2],
  )
  assert.ok((options?.bodyBytesMax ?? 0) > 2048)
  assert.equal(options?.jsonDepthMax, 9)
})

test('an upstream becomes one instance, with its key from the environment', async () => {
  const upstreams = [
    { name: 'u', url: 'http://h:1/base/v1/', apiKeyEnv: 'K', models: { a: 'b' }, inFlightMax: 3 },
  ]
  const [wish] = await plan({ upstreams }, { K: 'secret' })
  assert.deepEqual(wish?.spec.endpoint, {
    origin: 'http://h:1',
    basePath: '/base/v1',
    socketPath: null,
    apiKey: 'secret',
  })
  assert.deepEqual([...(wish?.spec.models ?? [])], [['a', 'b']])
  assert.equal(wish?.engineArgs, null)
})

test('the slots of an instance are those that the configuration says, and no more than it may be sent', async () => {
  const slotsOf = async (tree: Record<string, unknown>) => (await plan(tree))[0]?.spec.slots
  const remote = (more: object) => slotsOf({ upstreams: [{ name: 'u', url: 'http://h:1/v1', ...more }] })
  assert.equal(await slotsOf({ models: [{ name: 'x', source: 'tiny', parallel: 4, waitingMax: 5 }] }), 4)
  assert.equal(await remote({}), 16)
  assert.equal(await remote({ slots: 256 }), 256)
  assert.equal(await remote({ slots: 256, inFlightMax: 100 }), 100)
  assert.equal(await remote({ inFlightMax: 3 }), 3)
})

test('what changes the process is another identity; a weight is not', async () => {
  const identity = async (more: object) => {
    const [wish] = await plan({ models: [{ name: 'x', source: 'tiny', ...more }] })
    return JSON.stringify(wish?.identity)
  }
  assert.equal(await identity({}), await identity({ weight: 5 }))
  assert.notEqual(await identity({}), await identity({ parallel: 2 }))
})

test('a model has another version when its file, its URL or its upstream name is another, and only then', async () => {
  const versionOf = async (tree: Record<string, unknown>, file = 'one') => {
    const config = await makeConfig(tree)
    const models = config.models.map((model) => ({ config: model, path: '/x.gguf', version: file }))
    const registry = new Registry()
    for (const { spec } of listWishes(
      { models, upstreams: config.upstreams, config },
      { cores: 8, env: {} },
    )) {
      registry.add(new Instance(spec, new Connections(spec.endpoint, config.timeouts)))
    }
    return registry.versionOf('m')
  }
  const local = (more = {}) => ({ models: [{ name: 'm', source: 'tiny', ...more }] })
  const remote = (...urls: string[]) => ({
    upstreams: urls.map((url, at) => ({ name: `u${at}`, url, models: { m: 'b' } })),
  })
  const version = await versionOf(local())
  assert.equal(await versionOf(local({ instances: 3, weight: 2 })), version)
  assert.notEqual(await versionOf(local(), 'two'), version)
  const far = await versionOf(remote('http://h/v1', 'http://i/v1'))
  assert.equal(await versionOf(remote('http://i/v1', 'http://h/v1')), far, 'in whatever order')
  assert.notEqual(await versionOf(remote('http://h/v1')), far)
  assert.notEqual(
    await versionOf({ upstreams: [{ name: 'u', url: 'http://h/v1', models: { m: 'c' } }] }),
    far,
  )
  assert.equal(await versionOf({ ...remote('http://h/v1'), upstreams: [] }), '', 'unknown')
})
