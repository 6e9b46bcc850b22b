import { strict as assert } from 'node:assert'
import test from 'node:test'
import { checkWebhookUrl, resolveTarget, TargetRefused } from '../../../src/queue/webhooks/target.ts'
import { readWebhookSettings } from '../../../src/queue/webhooks/settings.ts'

const secrets = [Buffer.alloc(32, 7)]
const strict = { secrets, allowPrivate: false }
const lax = { secrets, allowPrivate: true }

const refusedUrls = [
  '', 'example.com', '/hook', 'http://example.com/', 'ftp://example.com/', 'file:///etc/passwd', 'javascript:alert(1)',
  'data:text/plain,x', 'unix:/run/docker.sock', 'https://user@example.com/', 'https://user:pass@example.com/',
  'https://:pass@example.com/', 'https://', 'https://[::1', 'https://localhost/', 'https://LOCALHOST/',
  'https://localhost./', 'https://a.localhost/', 'https://127.0.0.1/', 'https://127.1/', 'https://2130706433/',
  'https://0x7f000001/', 'https://0177.0.0.1/', 'https://0/', 'https://127.0.0.1./', 'https://①②⑦.⓪.⓪.①/',
  'https://[::1]/', 'https://[::ffff:127.0.0.1]/', 'https://[::ffff:7f00:1]/', 'https://[64:ff9b::7f00:1]/',
  'https://169.254.169.254/latest/meta-data/', 'https://[fd00:ec2::254]/', 'https://10.1.2.3:8443/',
] // prettier-ignore

for (const url of refusedUrls) {
  test(`refused when it is submitted: ${url}`, () => {
    assert.throws(() => checkWebhookUrl(url, strict), { code: 'invalid_request', param: 'webhook.url' })
  })
}

test('what may be', () => {
  for (const url of ['https://example.com/hook?key=1', 'https://8.8.8.8:8443/', 'https://[2606:4700::1111]/'])
    checkWebhookUrl(url, strict)
  for (const url of ['http://127.0.0.1:9/hook', 'http://localhost/', 'https://[::1]/'])
    checkWebhookUrl(url, lax)
})

test('private targets allowed, other schemes and credentials are not', () => {
  for (const url of ['ftp://127.0.0.1/', 'file:///etc/passwd', 'http://user:pass@127.0.0.1/']) {
    assert.throws(() => checkWebhookUrl(url, lax), { param: 'webhook.url' })
  }
})

test('without a secret every webhook is refused', () => {
  assert.throws(() => checkWebhookUrl('https://example.com/', { secrets: [], allowPrivate: true }), {
    param: 'webhook.url',
  })
})

test('one private address among public ones is enough to refuse', async () => {
  const resolve = () => Promise.resolve(['93.184.216.34', '10.0.0.1'])
  await assert.rejects(resolveTarget('https://example.com/', strict, resolve), TargetRefused)
  assert.equal((await resolveTarget('https://example.com/', lax, resolve)).addresses.length, 2)
})

test('a refusal does not tell the address that it found', async () => {
  const resolve = () => Promise.resolve(['10.20.30.40'])
  await assert.rejects(resolveTarget('https://example.com/', strict, resolve), (error: Error) => {
    return !error.message.includes('10.20')
  })
})

test('a literal address asks no resolver', async () => {
  const never = () => assert.fail('resolved')
  assert.deepEqual((await resolveTarget('https://[2606:4700::1111]/', strict, never)).addresses, [
    '2606:4700::1111',
  ])
})

test('secrets are read from the environment, and never shown', () => {
  const config = { secretEnv: 'HOOK', allowPrivate: false, timeoutMs: 1, attemptsMax: 1 }
  const first = `whsec_${Buffer.alloc(24, 1).toString('base64')}`
  const second = `whsec_${Buffer.alloc(64, 2).toString('base64')}`
  assert.deepEqual(
    readWebhookSettings(config, { HOOK: ` ${first} ${second}` }).secrets.map(({ length }) => length),
    [24, 64],
  )
  assert.deepEqual(readWebhookSettings({ ...config, secretEnv: '' }, { HOOK: first }).secrets, [])
  const wrong = ['', 'c2VjcmV0', `whsec_${Buffer.alloc(23).toString('base64')}`, `whsec_${Buffer.alloc(65).toString('base64')}`, 'whsec_!!!!', `${first} x`] // prettier-ignore
  for (const HOOK of wrong) {
    assert.throws(
      () => readWebhookSettings(config, { HOOK }),
      (error: Error) => error.name === 'SetupError' && (HOOK === '' || !error.message.includes(HOOK)),
    )
  }
  assert.throws(() => readWebhookSettings(config, {}), /HOOK, which is not set/)
})
