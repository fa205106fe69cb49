import { join } from 'node:path';
import { test } from 'vitest';
import { Agent, Gate } from './support/agent';
import { ask, launch, open, PHONE, visitor } from './support/browser';
import { Client, Home } from './support/server';
import { LATE, ROTTERDAM, tell } from './support/story';
import { NOW, settleTimes } from './support/times';

/** The pictures of README.md and docs/ui.md: the real page, with a story. */
test('take the pictures', { timeout: 180_000 }, async () => {
  const folder = join(import.meta.dirname, '../../../../docs/pictures');
  const agent = await Agent.start();
  const home = await Home.start(agent, { CHAT_PAGE_NAME: 'Atlas' });
  const browser = await launch();
  const ids = await tell(agent, new Client(home, 'mara'));
  await settleTimes(home);
  const arrive = (options: object) => visitor(browser, home, 'mara', { reducedMotion: 'reduce', ...options });
  const conversation = (title: string) => ids.get(title) ?? '';
  const desk = await arrive({ colorScheme: 'light' });
  const [page, phone] = [desk.page, (await arrive({ ...PHONE, colorScheme: 'dark' })).page];
  const shoot = async (of: typeof page, name: string) => {
    await of.evaluate(() => document.fonts.ready);
    await of.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled', caret: 'hide' });
  };
  for (const one of [page, phone]) {
    await one.clock.setFixedTime(NOW);
    await open(one, conversation('Order 4711 is late in Rotterdam'));
    await one.locator('.scroll').evaluate((box) => {
      box.scrollTop = 0;
    });
    await one.locator('.tool-head').nth(1).click();
    await one.locator('.value .hljs-attr').first().waitFor();
    await one.mouse.move(5, 400);
  }
  await shoot(page, 'tools-light');
  await shoot(phone, 'tools-phone');
  await phone.getByRole('button', { name: 'Show the list of conversations' }).click();
  await shoot(phone, 'list-phone');
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  await open(page, conversation('Why does my actix handler block?'));
  await page.locator('.hljs-keyword').first().waitFor();
  await shoot(page, 'code-dark');
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await open(page, conversation('Contract clause 14.2'));
  await page.locator('.failed').waitFor();
  await shoot(page, 'failure');
  const gate = new Gate();
  const [said, rest] = [ROTTERDAM.slice(0, ROTTERDAM.indexOf('| Customs')), ' …'];
  agent.on(
    LATE,
    { text: 'I will look up the order first.', calls: [{ name: 'orders_lookup', args: { order: '4711' } }] },
    { text: [said, rest], beforeLast: gate },
  );
  // What happens now has the time of now.
  const now = (await arrive({ colorScheme: 'light' })).page;
  await now.goto('/');
  await ask(now, LATE);
  await gate.reached;
  await now.locator('.md.live td').first().waitFor();
  await ask(now, 'And please tell the customer.');
  await now.locator('.fate', { hasText: 'Waits' }).waitFor();
  await shoot(now, 'streaming');
  gate.open();
  await browser.close();
  await home.remove();
  agent.stop();
});
