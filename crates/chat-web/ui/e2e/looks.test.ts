import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AxeResults, RunOptions } from 'axe-core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Agent, Gate } from './support/agent';
import { ask, composer, ended, launch, open, PHONE, visitor } from './support/browser';
import { compare } from './support/pictures';
import { Client, Home } from './support/server';
import { tell } from './support/story';
import { NOW, settleTimes } from './support/times';

/*
 * How the page looks, and how it is for those who do not look: on a desk and on a phone, light and dark.
 */
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES: RunOptions = {
  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  resultTypes: ['violations'],
};

let agent: Agent;
let home: Home;
let browser: Browser;
let ids: Map<string, string>;

beforeAll(async () => {
  agent = await Agent.start();
  home = await Home.start(agent, { CHAT_PAGE_NAME: 'Atlas' });
  ids = await tell(agent, new Client(home, 'mara'));
  await settleTimes(home);
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await home?.remove();
  agent?.stop();
});

/** What axe finds wrong with the page as it is. */
async function violations(page: Page, state: string): Promise<string[]> {
  await page.evaluate(() => document.fonts.ready);
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const found = await page.evaluate(
    (rules) => (window as unknown as { axe: { run: (rules: RunOptions) => Promise<AxeResults> } }).axe.run(rules),
    RULES,
  );
  return found.violations.map(
    ({ id, impact, nodes }) =>
      `${state}: ${id} (${impact}) at ${nodes
        .map((node) => node.target.join(' '))
        .slice(0, 3)
        .join(', ')}`,
  );
}

const SIZES: [string, BrowserContextOptions][] = [
  ['desk', {}],
  ['phone', PHONE],
];
const conversation = (title: string) => ids.get(title) ?? '';

describe.each(SIZES.flatMap(([size, options]) => (['light', 'dark'] as const).map((theme) => [size, theme, options] as const)))(
  '%s, %s',
  (size, theme, options) => {
    const arrive = () => visitor(browser, home, 'mara', { ...options, colorScheme: theme, reducedMotion: 'reduce', deviceScaleFactor: 1 });

    test('looks as it did', async () => {
      const { context, page, faults } = await arrive();
      await page.clock.setFixedTime(NOW);
      const wrong: (string | null)[] = [];
      const shoot = async (name: string) => {
        await page.evaluate(() => document.fonts.ready);
        // Ids are another each time.
        const mask = [page.locator('.failed code'), page.locator('.tool-id')];
        const taken = await page.screenshot({ animations: 'disabled', caret: 'hide', mask, maskColor: '#808080' });
        wrong.push(compare(`${size}-${theme}-${name}`, taken));
      };
      await page.goto('/');
      await page.locator('.row').first().waitFor({ state: 'attached' });
      await shoot('start');
      await open(page, conversation('Order 4711 is late in Rotterdam'));
      await page.locator('.scroll').evaluate((box) => {
        box.scrollTop = 0;
      });
      await page.locator('.tool-head').nth(1).click();
      await page.locator('.value .hljs-attr').first().waitFor();
      await page.mouse.move(5, 400);
      await shoot('tools');
      await open(page, conversation('Why does my actix handler block?'));
      await page.locator('.hljs-keyword').first().waitFor();
      await shoot('code');
      await open(page, conversation('Contract clause 14.2'));
      await page.locator('.failed').waitFor();
      await shoot('error');
      if (size === 'phone') {
        await page.getByRole('button', { name: 'Show the list of conversations' }).click();
        await shoot('list');
      }
      await context.close();
      expect(wrong.filter(Boolean)).toEqual([]);
      expect(faults.all).toEqual([]);
    });

    test('axe finds nothing in any state', async () => {
      const { context, page, faults } = await arrive();
      const found: string[] = [];
      const check = async (state: string) => {
        found.push(...(await violations(page, state)));
      };
      await page.goto('/');
      await page.locator('.row').first().waitFor({ state: 'attached' });
      await check('start');
      await open(page, conversation('Order 4711 is late in Rotterdam'));
      for (const head of await page.locator('.tool-head').all()) await head.click();
      await check('tools open');
      await open(page, conversation('Why does my actix handler block?'));
      await page.locator('.hljs-keyword').first().waitFor();
      await check('code');
      await open(page, conversation('Contract clause 14.2'));
      await check('failed');
      await page.getByRole('button', { name: 'More for this conversation' }).click();
      await check('menu');
      await page.keyboard.press('Enter');
      await check('rename');
      await page.keyboard.press('Escape');
      await page.locator('.scroll').focus();
      await page.keyboard.press('?');
      await check('shortcuts');
      await page.keyboard.press('Escape');
      if (size === 'phone') {
        await page.getByRole('button', { name: 'Show the list of conversations' }).click();
        await page.locator('.app.drawer').waitFor();
        await check('drawer');
        await page.getByRole('button', { name: 'Close the list of conversations' }).click();
      }
      const [tool, text] = [`${size}-${theme}`, new Gate()];
      agent.on('Work', { text: 'I look.', calls: [{ name: 'wait', args: { gate: tool } }] }, { text: ['It is', ' so.'], beforeLast: text });
      await page.goto('/');
      await ask(page, 'Work');
      await page.locator('.tool.is-running').waitFor();
      await check('tool running');
      agent.gate(tool).open();
      await page.locator('.md.live').waitFor();
      await ask(page, 'And?');
      await page.locator('.fate', { hasText: 'Waits' }).waitFor();
      await check('streaming and queued');
      await page.getByRole('button', { name: 'Take back' }).click();
      text.open();
      await page.locator('.fate', { hasText: 'Waits' }).waitFor({ state: 'detached' });
      await ask(page, 'x');
      await ended(page);
      await page.getByRole('button', { name: 'Answer again' }).click();
      await page.locator('.pager').waitFor();
      await ended(page);
      await page.getByRole('button', { name: 'Earlier answer' }).click();
      await page.locator('.old').waitFor();
      await check('earlier answer');
      await page.context().setOffline(true);
      await page.getByText('You are offline.').waitFor();
      await ask(page, 'Not now');
      await page.locator('.toast.error').waitFor();
      await check('offline, not sent');
      await page.context().setOffline(false);
      await composer(page).fill('');
      const title = (await page.locator('.bar h1').textContent()) ?? '';
      await page.getByRole('button', { name: 'More for this conversation' }).click();
      await page.getByRole('menuitem', { name: 'Delete' }).click();
      await page.getByText(`“${title}” is deleted.`).waitFor();
      await check('deleted');
      await page.evaluate(() => localStorage.clear());
      await page.goto('about:blank');
      await context.close();
      const stranger = await visitor(browser, home, null, { ...options, colorScheme: theme, reducedMotion: 'reduce' });
      await stranger.page.goto('/');
      await stranger.page.locator('.sign-in').waitFor();
      found.push(...(await violations(stranger.page, 'signed out')));
      await stranger.context.close();
      expect(found).toEqual([]);
      expect([...faults.all, ...stranger.faults.all]).toEqual([]);
    });
  },
);

test('the colours are the system’s until somebody chooses others, and then stay', async () => {
  const { context, page, faults } = await visitor(browser, home, 'mara', { colorScheme: 'dark' });
  const scheme = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.goto('/');
  await page.locator('.start').waitFor();
  const dark = await scheme();
  await page.emulateMedia({ colorScheme: 'light' });
  await expect.poll(scheme).not.toBe(dark);
  await page.getByRole('button', { name: 'Switch to light' }).click();
  await page.getByRole('button', { name: 'Switch to dark' }).click();
  await expect.poll(scheme).toBe(dark);
  await page.reload();
  await page.locator('.start').waitFor();
  expect(await scheme()).toBe(dark);
  await page.getByRole('button', { name: 'Switch to as the system' }).click();
  await expect.poll(scheme).not.toBe(dark);
  await context.close();
  expect(faults.all).toEqual([]);
});
